//! What the page can be asked: every arm's answer to each test problem, and the rows of each arm
//! token by token. The data lies in the page as JSON; the script (`common.js` and `report.js`) shows
//! it. Without script these parts stay hidden, and the page is what it would be without them.

mod data;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

pub(crate) use data::{data, traces};

/// The one script of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Of a report.
    Report,
    /// Of a page over a run that goes, which asks its own server.
    Live,
}

impl Script {
    fn text(self) -> &'static str {
        match self {
            Self::Report => concat!(
                "(() => {\n",
                include_str!("common.js"),
                include_str!("report.js"),
                "})();\n"
            ),
            Self::Live => concat!(
                "(() => {\n",
                include_str!("common.js"),
                include_str!("live.js"),
                "})();\n"
            ),
        }
    }

    /// Forbids whatever is not in the page, and every script but this one, should an escape ever be
    /// missed. Images out of the page itself (`data:`) are how a figure becomes a PNG.
    pub(crate) fn policy(self) -> String {
        let hash = STANDARD.encode(Sha256::digest(self.text()));
        let more = match self {
            Self::Report => "img-src data:",
            Self::Live => "connect-src 'self'",
        };
        format!(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; {more}; base-uri 'none'; form-action 'none'"
        )
    }

    /// The script with the data that it reads, which cannot end the element that holds it.
    pub(crate) fn elements(self, data: &serde_json::Value) -> Markup {
        let data = data.to_string().replace('<', "\\u003c");
        html! {
            script type="application/json" id="data" { (PreEscaped(data)) }
            script { (PreEscaped(self.text())) }
        }
    }
}

/// A part of the page that the script fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// The answers of two arms beside each other, then of all arms to one problem.
    Answers,
    /// The training rows of an arm, each beside another arm's row for the same problem.
    Rows,
}

impl Tool {
    /// Its labelled controls; what they choose from comes with the data.
    pub(crate) fn html(self) -> Markup {
        match self {
            Self::Answers => answers(),
            Self::Rows => rows(),
        }
    }
}

fn choice(id: &str, label: &str) -> Markup {
    html! { label for=(id) { span { (label) } select id=(id) {} } }
}

fn answers() -> Markup {
    html! {
        div.tool #answers-tool hidden {
            p { "Two arms on the same problems: choose a cell of the table for its problems, then a problem for every arm's answer to it. The cells in which only one arm is right are the flips that McNemar's test counts." }
            div.controls {
                (choice("answers-a", "Arm"))
                (choice("answers-b", "against"))
                (choice("answers-run", "Fine-tuning run"))
                label for="answers-find" { span { "Find in problem or answer" } input id="answers-find" type="search" autocomplete="off"; }
            }
            table.cells {
                caption.unseen { "Problems by which of the two arms is right" }
                thead { tr { td {} th scope="col" { bdi #answers-b-right {} " right" } th scope="col" { bdi #answers-b-not {} " not right" } } }
                tbody {
                    tr { th scope="row" { bdi #answers-a-right {} " right" } td { button type="button" data-cell="both" {} } td { button type="button" data-cell="a" {} } }
                    tr { th scope="row" { bdi #answers-a-not {} " not right" } td { button type="button" data-cell="b" {} } td { button type="button" data-cell="neither" {} } }
                }
            }
            p.found #answers-found role="status" {}
            div.items #answers-items {}
            button.more type="button" #answers-more hidden { "Show more" }
            p.note #answers-note {}
        }
    }
}

fn jobs(id: &str, label: &str) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table.jobs {
                thead { tr { th scope="col" { "job" } th scope="col" { "state" } th.r scope="col" { "time" } th scope="col" { "how far" } } }
                tbody id=(id) {}
            }
        }
    }
}

/// The parts of the page over a run that goes.
pub(crate) fn live() -> Markup {
    html! {
        section {
            h2.unseen { "Now" }
            p.lead #live-status role="status" { "Asking the run …" }
            p.missing #live-wrong role="alert" hidden {}
            p.missing #live-reports-none { "The report comes when all jobs are done." }
            ul #live-reports {}
        }
        section {
            h2 { "Jobs" }
            (jobs("live-jobs", "Jobs that are not done"))
            details.item { summary #live-done-count {} (jobs("live-done", "Jobs that are done")) }
        }
        section {
            h2 { "Training loss" }
            p.missing #live-losses-none { "Nothing was trained yet." }
            div.losses #live-losses {}
        }
        section {
            h2 { "A trace by its id" }
            form.controls #live-trace {
                label for="live-id" { span { "Id of a trace, or of a problem for all its traces" } input id="live-id" type="search" required autocomplete="off" size="36"; }
                button type="submit" { "Show" }
            }
            (crate::section::examples::legend())
            div.tool #live-found role="status" {}
        }
    }
}

fn rows() -> Markup {
    html! {
        div.tool #rows-tool hidden {
            div.controls {
                (choice("rows-student", "Student"))
                (choice("rows-arm", "Rows of arm"))
                (choice("rows-verdict", "Verdict"))
                (choice("rows-order", "Order"))
                label for="rows-find" { span { "Find in problem or trace" } input id="rows-find" type="search" autocomplete="off"; }
            }
            p.found #rows-found role="status" {}
            div.items #rows-items {}
            button.more type="button" #rows-more hidden { "Show more" }
            p.note #rows-note {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_leave_its_element() {
        let value = serde_json::json!({ "</script><script>": "<!--<script>alert(1)</script>-->" });
        let page = Script::Report.elements(&value).into_string();
        let json = page.split_once("id=\"data\">").unwrap().1;
        let json = json.split_once("</script>").unwrap().0;
        assert!(!json.contains('<'), "{json}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(json).unwrap(),
            value
        );
    }

    #[test]
    fn scripts_stay_small_set_text_as_text_and_a_report_asks_for_nothing() {
        for script in [Script::Report, Script::Live] {
            let text = script.text();
            assert!(text.len() < 32_000, "{} bytes", text.len());
            for way in [
                "</",
                "<!--",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "XMLHttpRequest",
                "import(",
            ] {
                assert!(!text.contains(way), "`{way}`");
            }
            assert_eq!(text.contains("fetch("), script == Script::Live);
        }
    }
}
