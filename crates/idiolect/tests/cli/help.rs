//! What users read first: the help of every command, as it is printed. A change is seen in review;
//! `INSTA_UPDATE=always cargo test --release -p idiolect help` writes it down.

use crate::kit::Place;

#[test]
fn help_texts_are_as_they_were_reviewed() {
    let place = Place::new();
    let mut all = String::new();
    for command in std::iter::once("").chain(crate::COMMANDS) {
        let arguments: Vec<&str> = [command, "--help"]
            .into_iter()
            .filter(|argument| !argument.is_empty())
            .collect();
        let text = place.done(&arguments);
        all += &format!("$ idiolect {}\n{text}\n", arguments.join(" "));
    }
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("help", all);
    });
}
