//! Where the code of a response stands: in fences, between markers, or bare.

use std::ops::Range;

use super::bare::{bare, indented, is_prose};
use super::python::Nesting;

/// How a piece of code is set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Between markers, or in a fence for Python or for no language in particular.
    Marked,
    /// In a fence with a tag that is no language's (`text`).
    Other,
    /// Bare, with a line that can only be code.
    Bare,
    /// Bare, assignments alone.
    Assignments,
}

/// A piece of a response that may be code: where each of its lines stands, without the indentation
/// that they share, and without blank lines around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) lines: Vec<Range<usize>>,
}

/// The blocks of a response in order; `wanted` are the names that its tests call. In a response that
/// was cut (`cut`), what is left open does not count.
pub(super) fn blocks(text: &str, cut: bool, wanted: &[String]) -> Vec<Block> {
    let whole = 0..text.len();
    // A string that never ends would hide every fence after it: then strings do not count.
    let parts = parts(text, whole.clone(), cut, wanted, true)
        .or_else(|| parts(text, whole, cut, wanted, false))
        .unwrap_or_default();
    let (mut found, mut words) = (Vec::new(), Vec::new());
    let mut marker: Option<Marker> = None;
    let bare_code = |found: &mut Vec<Block>, part: Range<usize>| {
        for code in bare(text, part, wanted) {
            let kind = if code.certain {
                Kind::Bare
            } else {
                Kind::Assignments
            };
            if code.ended || code.range.end < text.len() || !cut {
                found.extend(block(text, kind, code.range, false));
            }
        }
    };
    for part in parts {
        let part = match part {
            Part::Fenced { code, kind, quoted } => {
                found.extend(block(text, kind, code, quoted));
                if let Some(marker) = &mut marker {
                    marker.has_fence = true;
                }
                continue;
            }
            Part::Words(part) => part,
        };
        words.push(part.clone());
        let mut start = part.start;
        for line in lines(text, part.clone()) {
            let (begins, ends) = (
                begin_marker(&text[line.clone()]),
                end_marker(&text[line.clone()]),
            );
            let inside = start..line.start;
            if let Some(length) = ends {
                match marker.take() {
                    Some(marker) if marker.has_fence => {}
                    Some(_) => found.extend(marked(text, inside, wanted)),
                    // Without a beginning it was the prompt's.
                    None if found.is_empty() => found.extend(marked(text, inside, wanted)),
                    None => bare_code(&mut found, inside),
                }
                start = line.start + length;
            } else if let Some(length) = begins {
                if marker.is_none() {
                    bare_code(&mut found, inside);
                }
                marker = Some(Marker { has_fence: false });
                start = line.start + length;
            }
        }
        match &marker {
            None => bare_code(&mut found, start..part.end),
            Some(marker) if !marker.has_fence && part.end == text.len() && !cut => {
                found.extend(marked(text, start..part.end, wanted));
            }
            Some(_) => {}
        }
    }
    if found.is_empty() && !cut {
        let code = words.into_iter().find_map(|part| indented(text, part));
        found.extend(code.and_then(|code| block(text, Kind::Bare, code, false)));
    }
    found
}

/// What stands between markers: all of it, unless words stand there beside the code.
fn marked(text: &str, inside: Range<usize>, wanted: &[String]) -> Vec<Block> {
    let code = bare(text, inside.clone(), wanted);
    let mut lines = text[inside.clone()].lines();
    let words = lines
        .find(|line| !line.trim().is_empty())
        .is_some_and(is_prose);
    let stretches = match code
        .iter()
        .any(|code| code.certain && (words || code.ended))
    {
        true => code.into_iter().map(|code| code.range).collect(),
        false => vec![inside],
    };
    let block = |code| block(text, Kind::Marked, code, false);
    stretches.into_iter().filter_map(block).collect()
}

/// An open marker.
struct Marker {
    /// A fence inside holds the code, and what is around it are words.
    has_fence: bool,
}

/// What begins and ends code where no fence does, each at the beginning of a line.
const MARKERS: [(&str, &str); 5] = [
    ("[BEGIN]", "[DONE]"),
    ("[PYTHON]", "[/PYTHON]"),
    ("[CODE]", "[/CODE]"),
    ("<code>", "</code>"),
    ("<python>", "</python>"),
];

/// Whether a text sets code apart from words, with a fence or the marker that ends it.
pub(super) fn sets_apart(text: &str) -> bool {
    let ends = MARKERS.iter().map(|(_, end)| end);
    ["```", "~~~"]
        .iter()
        .chain(ends)
        .any(|sign| text.contains(sign))
}

/// Whether a text is a marker and nothing else.
pub(super) fn is_marker(text: &str) -> bool {
    MARKERS
        .iter()
        .any(|(begin, end)| [*begin, *end].contains(&text))
}

/// How far the marker at the beginning of a line reaches.
fn begin_marker(line: &str) -> Option<usize> {
    marker(line, MARKERS.map(|(begin, _)| begin))
}

fn end_marker(line: &str) -> Option<usize> {
    marker(line, MARKERS.map(|(_, end)| end))
}

fn marker(line: &str, markers: [&str; 5]) -> Option<usize> {
    let rest = line.trim_start();
    let marker = markers.iter().find(|marker| rest.starts_with(**marker))?;
    Some(line.len() - rest.len() + marker.len())
}

/// A part of a response.
enum Part {
    Words(Range<usize>),
    Fenced {
        code: Range<usize>,
        kind: Kind,
        quoted: bool,
    },
}

/// The parts of a text as its fences cut it; `None` where strings count (`strings`: a fence inside
/// one of Python's strings is text) and one is left open.
///
/// A fence may stand in a list or a quotation, and be of back-ticks or tildes; one left open reaches
/// to the end, since a stop string takes the closing fence away.
fn parts(
    text: &str,
    whole: Range<usize>,
    cut: bool,
    wanted: &[String],
    strings: bool,
) -> Option<Vec<Part>> {
    let mut found = Vec::new();
    let mut open: Option<Fence<'_>> = None;
    let mut start = whole.start;
    let mut state = Nesting::default();
    let mut at = whole.start;
    for line in text[whole.clone()].split_inclusive('\n') {
        let here = at;
        at += line.len();
        if strings && state.in_string() {
            state.read(line);
            continue;
        }
        let new = opening(line);
        let ends_at = match (&open, &new) {
            (Some(fence), _) if fence.is_closed_by(line) => Some((here, at)),
            (Some(fence), Some(new))
                if new.sign == fence.sign && !new.info.is_empty() && new.length >= fence.length =>
            {
                Some((here, here))
            }
            (Some(_), _) if end_marker(line).is_some() => Some((here, here)),
            (Some(fence), _) => fence.closed_at_end_of(line).map(|end| (here + end, at)),
            (None, _) => None,
        };
        if let Some((end, next)) = ends_at {
            if let Some(fence) = open.take() {
                found.extend(fence.parts(text, start..end, wanted, strings));
            }
            (start, state) = (next, Nesting::default());
            if next == at || new.is_none() {
                continue;
            }
        }
        if open.is_some() {
            state.read(line);
            continue;
        }
        if let Some(new) = new {
            let words = start..here;
            let code = bare(text, words.clone(), wanted)
                .pop()
                .filter(|code| new.info.is_empty() && code.certain && !code.ended);
            if let Some(code) = code {
                // Code that runs to a fence without a tag: the prompt has opened it.
                found.push(Part::Words(words.start..code.range.start));
                found.push(Part::Fenced {
                    code: code.range,
                    kind: Kind::Marked,
                    quoted: false,
                });
            } else {
                found.push(Part::Words(words));
                open = Some(new);
            }
            (start, state) = (at, Nesting::default());
        } else if let Some(code) = inline(line) {
            found.push(Part::Words(start..here));
            let code = here + code.start..here + code.end;
            found.push(Part::Fenced {
                code,
                kind: Kind::Marked,
                quoted: false,
            });
            (start, state) = (at, Nesting::default());
        } else if let Some(new) = opening_after_words(line) {
            found.push(Part::Words(start..here));
            open = Some(new);
            (start, state) = (at, Nesting::default());
        } else {
            state.read(line);
        }
    }
    match open {
        None => found.push(Part::Words(start..whole.end)),
        Some(fence) if !cut => found.extend(fence.parts(text, start..whole.end, wanted, strings)),
        Some(_) => {}
    }
    (!strings || !state.in_string()).then_some(found)
}

/// The line that begins a fenced block.
#[derive(Clone, Copy)]
struct Fence<'a> {
    sign: char,
    length: usize,
    /// Whether its lines are quoted with `>`.
    quoted: bool,
    /// What follows it on the line.
    info: &'a str,
}

impl Fence<'_> {
    fn is_closed_by(&self, line: &str) -> bool {
        let rest = line.trim_start_matches([' ', '\t', '>']).trim_end();
        rest.chars().all(|c| c == self.sign) && rest.len() >= self.length
    }

    /// Where code ends that has the closing fence at the end of its last line.
    fn closed_at_end_of(&self, line: &str) -> Option<usize> {
        let rest = line.trim_end();
        let code = rest.trim_end_matches(self.sign);
        (rest.len() - code.len() >= self.length && !code.contains('#')).then_some(code.len())
    }

    /// The block, or the blocks of a block of Markdown; none where it is of another language.
    fn parts(&self, text: &str, code: Range<usize>, wanted: &[String], strings: bool) -> Vec<Part> {
        let mut lines = text[code.clone()].lines();
        let first = lines.find(|line| !line.trim().is_empty());
        let language = match first.and_then(opening) {
            Some(_) => Language::Markdown, // a fence around the fence of the code
            None => language(self.info),
        };
        match language {
            Language::Python => vec![Part::Fenced {
                code,
                kind: Kind::Marked,
                quoted: self.quoted,
            }],
            Language::Unknown => vec![Part::Fenced {
                code,
                kind: Kind::Other,
                quoted: self.quoted,
            }],
            Language::Markdown => {
                let fenced = |part: &Part| matches!(part, Part::Fenced { .. });
                let inner = parts(text, code, false, wanted, strings).unwrap_or_default();
                inner.into_iter().filter(fenced).collect()
            }
            Language::Foreign => Vec::new(),
        }
    }
}

/// A line that begins a fenced block: three or more back-ticks or tildes, perhaps behind the mark of
/// a list item or a quotation, then at most a tag.
fn opening(line: &str) -> Option<Fence<'_>> {
    let mut rest = line.trim_start_matches([' ', '\t', '>']);
    let quoted = line[..line.len() - rest.len()].contains('>');
    let item = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let marked = match rest.len() - item.len() {
        0 => rest.strip_prefix(['-', '*', '+']),
        1..4 => item.strip_prefix(['.', ')']),
        _ => None,
    };
    if let Some(item) = marked.filter(|item| item.starts_with([' ', '\t'])) {
        rest = item.trim_start();
    }
    fence(rest).map(|fence| Fence { quoted, ..fence })
}

fn fence(rest: &str) -> Option<Fence<'_>> {
    let sign = rest.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let info = rest.trim_start_matches(sign);
    let length = rest.len() - info.len();
    // Back-ticks after back-ticks are code within a line.
    (length >= 3 && !(sign == '`' && info.contains('`'))).then(|| Fence {
        sign,
        length,
        quoted: false,
        info: info.trim(),
    })
}

/// `Here it is: ```python`
fn opening_after_words(line: &str) -> Option<Fence<'_>> {
    let at = line.find("```")?;
    let fence = fence(&line[at..])?;
    let python = !fence.info.is_empty() && matches!(language(fence.info), Language::Python);
    (python && !fence.info.contains(char::is_whitespace)).then_some(fence)
}

/// The code of a line that is fenced within itself: `` ```python f = abs``` ``.
fn inline(line: &str) -> Option<Range<usize>> {
    let rest = line.trim();
    let inside = rest.strip_prefix("```")?.strip_suffix("```")?;
    let code = inside.trim_start_matches(|c: char| c.is_alphanumeric());
    let tag = &inside[..inside.len() - code.len()];
    let tagged = matches!(language(tag), Language::Python) && code.starts_with(' ');
    let code = if tagged { code } else { inside }.trim();
    let start = line.find(code)?;
    (!code.is_empty() && !code.contains("```")).then(|| start..start + code.len())
}

enum Language {
    /// Python, or none in particular.
    Python,
    Markdown,
    /// A tag that is no language's.
    Unknown,
    Foreign,
}

/// The language of a tag: `python`, `Python 3`, `{.python}`, `{python, echo=TRUE}`, `py:main.py`.
fn language(info: &str) -> Language {
    const FOREIGN: [&str; 78] = [
        "ada",
        "asm",
        "assembly",
        "awk",
        "bash",
        "bat",
        "batch",
        "c",
        "c#",
        "c++",
        "cmd",
        "clojure",
        "coffee",
        "console",
        "cpp",
        "crystal",
        "cs",
        "csharp",
        "css",
        "csv",
        "cxx",
        "dart",
        "diff",
        "dockerfile",
        "elixir",
        "elm",
        "erlang",
        "f#",
        "fortran",
        "fsharp",
        "go",
        "golang",
        "graphql",
        "groovy",
        "haskell",
        "html",
        "ini",
        "java",
        "javascript",
        "js",
        "json",
        "jsonl",
        "jsx",
        "julia",
        "kotlin",
        "latex",
        "lisp",
        "log",
        "lua",
        "makefile",
        "matlab",
        "mermaid",
        "nim",
        "objc",
        "ocaml",
        "octave",
        "pascal",
        "perl",
        "php",
        "powershell",
        "prolog",
        "r",
        "rb",
        "ruby",
        "rs",
        "rust",
        "scala",
        "scheme",
        "sh",
        "shell",
        "sql",
        "swift",
        "tex",
        "toml",
        "ts",
        "typescript",
        "xml",
        "yaml",
    ];
    let tag = info
        .trim_matches(['`', '~', '{', '}', '.', ' '])
        .to_ascii_lowercase();
    let tag = tag
        .split([' ', '\t', ',', ':', '{', '}', '=', ';', '[', '('])
        .next()
        .unwrap_or("");
    match tag {
        "" | "code" | "sage" | "tool_code" | "jupyter" | "notebook" => Language::Python,
        "pytb" => Language::Foreign,
        "markdown" | "md" => Language::Markdown,
        tag if tag.starts_with("py") || tag.starts_with("ipy") || tag.ends_with(".py") => {
            Language::Python
        }
        "yml" | "zsh" | "vb" | "tsx" | "terminal" => Language::Foreign,
        tag if FOREIGN.contains(&tag) => Language::Foreign,
        _ => Language::Unknown,
    }
}

/// The lines of a part of the text, without their ends.
fn lines(text: &str, part: Range<usize>) -> Vec<Range<usize>> {
    let mut at = part.start;
    text[part]
        .split_inclusive('\n')
        .map(|line| {
            let start = at;
            at += line.len();
            start..start + line.trim_end_matches(['\n', '\r']).len()
        })
        .collect()
}

/// A part of the text as a block, if it holds anything.
fn block(text: &str, kind: Kind, code: Range<usize>, quoted: bool) -> Option<Block> {
    let mut lines = lines(text, code);
    if quoted {
        for line in &mut lines {
            let rest = &text[line.clone()];
            if let Some(inside) = rest.trim_start().strip_prefix('>') {
                line.start = line.end - inside.strip_prefix(' ').unwrap_or(inside).len();
            }
        }
    }
    let is_blank = |line: &Range<usize>| text[line.clone()].trim().is_empty();
    let first = lines.iter().position(|line| !is_blank(line))?;
    lines.drain(..first);
    while lines.last().is_some_and(is_blank) {
        lines.pop();
    }
    if let Some(last) = lines.last_mut() {
        last.end = last.start + text[last.clone()].trim_end().len();
    }
    let indent = lines
        .iter()
        .map(|line| &text[line.clone()])
        .find_map(|line| {
            let code = line.trim_start();
            (!code.is_empty() && !code.starts_with('#')).then(|| &line[..line.len() - code.len()])
        });
    for line in &mut lines {
        let shared = text[line.clone()].bytes().zip(indent.unwrap_or("").bytes());
        line.start += shared.take_while(|(a, b)| a == b).count();
    }
    Some(Block { kind, lines })
}
