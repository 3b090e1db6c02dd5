//! Any text as an arm, `NAME=SPEC`: refused with a reason, or an arm that is spelled as it reads.

use idiolect_core::arms::{ArmSpec, describe};

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let arm: ArmSpec = match text.parse() {
        Ok(arm) => arm,
        Err(reason) => return assert!(!format!("{reason}").is_empty()),
    };
    let spelled = format!("{}={}", arm.name, arm.spec());
    let again: ArmSpec = spelled.parse().expect("a spelled arm can be read");
    assert_eq!(again, arm, "{spelled}");
    assert!(!arm.built().is_empty());
    describe(&arm.name, Some(&arm.spec()));
}
