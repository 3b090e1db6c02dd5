//! Any text as a chat template: refused with a reason, or it renders conversations or states why not.

use std::collections::BTreeMap;

use idiolect_engine::template::ChatTemplate;
use idiolect_model::Message;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let source = String::from_utf8_lossy(data);
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens: BTreeMap<String, String> = tokens
        .map(|(name, token)| (name.to_owned(), token.to_owned()))
        .into();
    let template = match ChatTemplate::new(&source, tokens) {
        Ok(template) => template,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    let turns = [
        Message::new("system", "Be brief."),
        Message::new("user", "1 + 1?"),
        Message::new("assistant", "<think>two</think>2"),
    ];
    for (turns, generation_prompt) in [(&turns[..], false), (&turns[1..2], true)] {
        if let Err(reason) = template.render(turns, generation_prompt) {
            assert!(!reason.is_empty());
        }
    }
}
