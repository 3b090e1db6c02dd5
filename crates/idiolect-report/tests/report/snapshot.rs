//! The report as Markdown and its tables, as they were reviewed: a change of a word or a figure is
//! seen. `INSTA_UPDATE=always cargo test --release -p idiolect-report` writes it down.

use crate::sample;

#[test]
fn markdown_and_tables_are_as_they_were_reviewed() {
    let view = sample::miniature(2, 3);
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("report", idiolect_report::markdown(&view));
        insta::assert_snapshot!("arms", idiolect_report::arms_table(&view.comparison, None));
    });
}
