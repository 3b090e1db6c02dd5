use super::*;
use serde_json::json;

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(
        source,
        BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]),
    )
    .unwrap()
}

fn says(source: &str) -> Result<String, String> {
    let turn = Message::new("user", "<b>é \"x\"</b>\n");
    template(source).render(&[turn], true)
}

#[test]
fn generation_tags_vanish_with_the_space_that_they_take() {
    assert_eq!(
        says("a\n  {% generation %}\n b {%- endgeneration -%} \n c{# {% generation %} #}").unwrap(),
        "a\n bc"
    );
    assert_eq!(
        says("{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}").unwrap(),
        "{% generation %}{% generation %}"
    );
}

#[test]
fn values_are_written_as_python_writes_them() {
    assert_eq!(
        says("{{ true }} {{ none }} {{ tools }} {{ bos_token }}{{ nobody }}|{{ messages[0].content | tojson }}").unwrap(),
        "True None None <s>|\"<b>é \\\"x\\\"</b>\\n\""
    );
    assert_eq!(
        says("{{ {'a': [1, 2.5], 'b': {}} | tojson }}").unwrap(),
        "{\"a\": [1, 2.5], \"b\": {}}"
    );
}

#[test]
fn the_day_is_pinned_and_unknown_directives_are_errors() {
    assert_eq!(says("{{ strftime_now('%d %b %Y') }}").unwrap(), TODAY);
    assert_eq!(
        says("{{ strftime_now('%A %B %y, %j') }}").unwrap(),
        "Friday July 24, 208"
    );
    assert!(
        says("{{ strftime_now('%U') }}")
            .unwrap_err()
            .contains("`%U`")
    );
}

#[test]
fn what_a_template_says_against_a_conversation_is_told() {
    let reason = says("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert!(reason.contains("roles must alternate (line 1)"), "{reason}");
}

#[test]
fn a_loop_without_end_is_stopped() {
    let endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% set x = 1 %}{% endfor %}{% endfor %}";
    assert!(says(endless).unwrap_err().contains("fuel"));
}

#[test]
fn a_broken_template_names_its_line() {
    let error = ChatTemplate::new("a\n{% if %}", BTreeMap::new())
        .err()
        .unwrap();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn the_file_goes_before_the_settings_and_a_list_is_asked_for_its_default() {
    let null = json!(null);
    let of = |file: Option<&str>, settings: serde_json::Value| {
        ChatTemplate::of_files(file, &settings, &null)
    };
    let text = |found: Result<Option<ChatTemplate>, String>| {
        found.unwrap().unwrap().render(&[], false).unwrap()
    };
    assert!(of(None, json!({})).unwrap().is_none());
    assert_eq!(text(of(None, json!({"chat_template": "a"}))), "a");
    assert_eq!(text(of(Some("b"), json!({"chat_template": "a"}))), "b");
    let listed = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d{{ eos_token }}"}]);
    let settings = json!({"chat_template": listed, "eos_token": {"content": "</s>"}});
    assert_eq!(text(of(None, settings)), "d</s>");
    let reason = of(None, json!({"chat_template": [listed[0]]}))
        .err()
        .unwrap();
    assert!(
        reason.contains("tool_use") && reason.contains("`default`"),
        "{reason}"
    );
}
