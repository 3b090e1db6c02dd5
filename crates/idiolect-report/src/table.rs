//! A table once, shown as HTML, Markdown, aligned text or CSV, so that the page, `report.md` and the
//! terminal cannot disagree.

use maud::{Markup, html};

use crate::format::{NONE, inline};

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under heads. Cells are plain text; each rendering escapes for itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// One sentence or two above the table: what it shows, over what n.
    pub(crate) caption: String,
    /// Head and setting of each column.
    pub(crate) columns: Vec<(String, Align)>,
    /// Cells, as many a row as there are columns. The first cell heads its row.
    pub(crate) rows: Vec<Vec<String>>,
    /// Rows to set apart (the baselines), by index.
    pub(crate) quiet: Vec<usize>,
}

/// A left-set column.
pub(crate) fn left(head: &str) -> (String, Align) {
    (head.to_owned(), Align::Left)
}

/// A right-set column.
pub(crate) fn right(head: &str) -> (String, Align) {
    (head.to_owned(), Align::Right)
}

impl Table {
    /// Without the columns that hold no number in any row; the first stays.
    pub(crate) fn without_blank_columns(mut self) -> Self {
        for j in (1..self.columns.len()).rev() {
            if self
                .rows
                .iter()
                .all(|row| row.get(j).is_none_or(|cell| cell == NONE))
            {
                self.columns.remove(j);
                self.rows
                    .iter_mut()
                    .filter(|row| j < row.len())
                    .for_each(|row| drop(row.remove(j)));
            }
        }
        self
    }

    /// Columns of a terminal that [`Self::text`] takes.
    pub(crate) fn width(&self) -> usize {
        self.text().lines().map(width).max().unwrap_or(0)
    }

    /// Takes out the column with that head and the `behind` columns that follow it; whether it is there.
    pub(crate) fn leave_out(&mut self, head: &str, behind: usize) -> bool {
        let Some(at) = self.columns.iter().position(|(name, _)| name == head) else {
            return false;
        };
        let gone = at..=at + behind;
        self.columns.drain(gone.clone());
        for row in &mut self.rows {
            row.drain(gone.clone());
        }
        true
    }

    /// As a numbered HTML table that scrolls by itself when it is too wide for the page.
    pub(crate) fn html(&self, number: usize) -> Markup {
        html! {
            figure.table {
                figcaption id=(format!("table-{number}")) { strong { "Table " (number) "." } " " (inline(&self.caption)) }
                div.scroll tabindex="0" role="region" aria-labelledby=(format!("table-{number}")) { table {
                    thead { tr {
                        @for (head, align) in &self.columns { th scope="col" class=(class(*align)) { (inline(head)) } }
                    } }
                    tbody {
                        @for (i, row) in self.rows.iter().enumerate() {
                            tr.quiet[self.quiet.contains(&i)] {
                                @for (j, (cell, (_, align))) in row.iter().zip(&self.columns).enumerate() {
                                    @if j == 0 { th scope="row" class=(class(*align)) { bdi { (inline(cell)) } } }
                                    @else { td class=(class(*align)) { bdi { (inline(cell)) } } }
                                }
                            }
                        }
                    }
                } }
            }
        }
    }

    /// As a GitHub table, caption first.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = format!("{}\n\n", markdown_text(&self.caption));
        out += &line(
            self.columns
                .iter()
                .map(|(head, _)| markdown_text(head))
                .collect(),
        );
        let rules = self.columns.iter().map(|(_, align)| match align {
            Align::Left => "---".to_owned(),
            Align::Right => "---:".to_owned(),
        });
        out += &line(rules.collect());
        for row in &self.rows {
            out += &line(row.iter().map(|cell| markdown_text(cell)).collect());
        }
        out
    }

    /// As aligned columns for a terminal, without the caption.
    pub(crate) fn text(&self) -> String {
        let cell = |text: &str| inline(text);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|j| {
                let cells = self
                    .rows
                    .iter()
                    .filter_map(|row| row.get(j))
                    .map(|c| width(&cell(c)));
                cells.chain([width(&self.columns[j].0)]).max().unwrap_or(0)
            })
            .collect();
        let heads: Vec<String> = self.columns.iter().map(|(head, _)| head.clone()).collect();
        let mut out = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let mut line = String::new();
            for (j, (text, (_, align))) in row.iter().zip(&self.columns).enumerate() {
                let text = cell(text);
                let space = " ".repeat(widths[j].saturating_sub(width(&text)));
                match align {
                    Align::Left => line += &format!("{text}{space}"),
                    Align::Right => line += &format!("{space}{text}"),
                }
                line += "  ";
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

/// Comma-separated lines after RFC 4180, heads first; numbers keep all their digits.
pub(crate) fn csv(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let field = |text: &str| {
        if text.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let mut out = heads.join(",") + "\n";
    for row in rows {
        out += &row
            .iter()
            .map(|cell| field(cell))
            .collect::<Vec<_>>()
            .join(",");
        out.push('\n');
    }
    out
}

/// A number for a CSV cell: shortest digits that give the same float back; empty when not finite.
pub(crate) fn csv_number(value: f64) -> String {
    if value.is_finite() {
        value.to_string()
    } else {
        String::new()
    }
}

/// Plain text with every character that Markdown or HTML would act on escaped, on one line.
/// Brackets are left alone unless a link could come of them: `[.05, .11]` stays readable.
pub(crate) fn markdown_text(text: &str) -> String {
    let text = inline(text);
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            ']' if !matches!(chars.peek(), Some('(' | '[' | ':')) => out.push(c),
            '\\' | '`' | '*' | '_' | ']' | '|' | '#' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

fn class(align: Align) -> &'static str {
    match align {
        Align::Left => "l",
        Align::Right => "r",
    }
}

/// Columns that a text takes in a terminal; wide scripts are counted double, roughly.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x0300..=0x036f => 0,
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xff00..=0xff60
            | 0x1f300..=0x1faff => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            caption: "Two arms".into(),
            columns: vec![left("arm"), right("n")],
            rows: vec![
                vec!["G|<b>".into(), "1".into()],
                vec!["W".into(), "1000".into()],
            ],
            quiet: vec![1],
        }
    }

    #[test]
    fn one_table_reads_the_same_everywhere() {
        assert_eq!(table().text(), "arm       n\nG|<b>     1\nW      1000\n");
        assert_eq!(
            table().markdown(),
            "Two arms\n\n| arm | n |\n| --- | ---: |\n| G\\|&lt;b&gt; | 1 |\n| W | 1000 |\n"
        );
        let html = table().html(1).into_string();
        assert!(html.contains("<bdi>G|&lt;b&gt;</bdi>"), "{html}");
        assert!(html.contains("<tr class=\"quiet\">"), "{html}");
    }

    #[test]
    fn columns_without_a_number_are_dropped() {
        let mut blank = table();
        blank.columns.push(right("steps"));
        blank
            .rows
            .iter_mut()
            .for_each(|row| row.push(NONE.to_owned()));
        assert_eq!(blank.without_blank_columns().text(), table().text());
    }

    #[test]
    fn csv_fields_are_quoted_where_they_must_be() {
        let rows = vec![
            vec!["a,\"b\"".to_owned(), csv_number(0.1)],
            vec!["c".into(), csv_number(f64::NAN)],
        ];
        assert_eq!(csv(&["x", "y"], rows), "x,y\n\"a,\"\"b\"\"\",0.1\nc,\n");
    }
}
