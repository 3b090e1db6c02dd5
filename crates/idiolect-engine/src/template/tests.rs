use super::*;
use serde_json::{Map, json};

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(
        source,
        BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]),
    )
    .unwrap()
}

fn render(source: &str) -> Result<String, String> {
    let turn = Message::new("user", "<b>é \"x\"</b>\n");
    template(source).render(&[turn], true)
}

#[test]
fn generation_tags_vanish_with_the_space_that_they_take() {
    assert_eq!(
        render("a\n  {% generation %}\n b {%- endgeneration -%} \n c{# {% generation %} #}")
            .unwrap(),
        "a\n bc"
    );
    assert_eq!(
        render("{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}").unwrap(),
        "{% generation %}{% generation %}"
    );
}

#[test]
fn values_are_written_as_python_writes_them() {
    assert_eq!(
        render("{{ true }} {{ none }} {{ tools }} {{ bos_token }}{{ nobody }}|{{ messages[0].content | tojson }}").unwrap(),
        "True None None <s>|\"<b>é \\\"x\\\"</b>\\n\""
    );
    assert_eq!(
        render("{{ {'a': [1, 2.5], 'b': {}} | tojson }}").unwrap(),
        "{\"a\": [1, 2.5], \"b\": {}}"
    );
}

#[test]
fn the_day_is_pinned_and_unknown_directives_are_errors() {
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}").unwrap(), TODAY);
    assert_eq!(
        render("{{ strftime_now('%A %B %y, %j') }}").unwrap(),
        "Friday July 24, 208"
    );
    assert!(
        render("{{ strftime_now('%U') }}")
            .unwrap_err()
            .contains("`%U`")
    );
}

#[test]
fn what_a_template_says_against_a_conversation_is_told() {
    let reason = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert!(reason.contains("roles must alternate (line 1)"), "{reason}");
}

#[test]
fn a_loop_without_end_is_stopped() {
    let endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% set x = 1 %}{% endfor %}{% endfor %}";
    assert!(render(endless).unwrap_err().contains("fuel"));
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

/// Each row of the fixture for each value; what differs from Jinja2 is known and listed.
#[test]
fn constructs_render_as_jinja2_renders_them() {
    let text = include_str!("../../../../fixtures/templates/semantics.jsonl");
    let mut rows = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let values = rows.next().unwrap()["values"].as_array().unwrap().clone();
    let (mut same, mut refused, mut accepted, mut different) = (0, Vec::new(), 0, Vec::new());
    let rows: Vec<serde_json::Value> = rows.collect();
    for row in &rows {
        let source = row["template"].as_str().unwrap();
        let template = ChatTemplate::new(source, BTreeMap::new());
        for (i, expected) in row["texts"].as_array().unwrap().iter().enumerate() {
            let given: Map<String, serde_json::Value> = values
                .get(i)
                .map(|value| ("x".to_owned(), value.clone()))
                .into_iter()
                .collect();
            let got = template
                .as_ref()
                .ok()
                .and_then(|template| template.render_with(&[], &given, false).ok());
            match (expected.as_str(), got.as_deref()) {
                (expected, got) if expected == got => same += 1,
                (Some(_), None) => refused.push(format!("{source} of {:?}", values.get(i))),
                (None, _) => accepted += 1,
                (Some(expected), Some(got)) => {
                    different.push((source, expected.to_owned(), got.to_owned()))
                }
            }
        }
    }
    let sources: Vec<&str> = different.iter().map(|(source, ..)| *source).collect();
    assert_eq!(sources, DIFFERENT, "{different:?}");
    assert!(refused.len() <= 10, "{refused:#?}");
    assert!(same >= 5700 && accepted <= 84, "{same} {accepted}");
}

/// Where the texts differ: an argument that is undefined takes the macro's default, a tuple equals the list of the same items, and `cycler` is missing.
const DIFFERENT: [&str; 3] = [
    "{% macro m(a, b='q') %}{{ a ~ b }}{% endmacro %}{{ m(x) }}{{ m(x, b=x) }}",
    "{{ [1, 2] == (1, 2) }}",
    "{{ cycler is defined }} {{ debug is defined }}",
];

#[test]
fn methods_of_mappings_go_before_their_keys() {
    let tool = json!({"items": 3, "keys": 1});
    let given = Map::from_iter([("tool".to_owned(), tool)]);
    let of = |source: &str| template(source).render_with(&[], &given, false).unwrap();
    assert_eq!(
        of("{% for k, v in tool.items() %}{{ k ~ v }};{% endfor %}{{ tool['items'] }}"),
        "items3;keys1;3"
    );
}

#[test]
fn code_that_never_ends_or_asks_for_too_much_is_an_error() {
    for source in [
        "{{ 'a' ~ (",
        "{{ x[1:",
        "{% for i in (1, 2 %}",
        "{{ ~ }}",
        "{{ ['a'] * 10000000000 }}",
    ] {
        let made = ChatTemplate::new(source, BTreeMap::new());
        let failed = match made {
            Ok(template) => template.render(&[], false).is_err(),
            Err(_) => true,
        };
        assert!(failed, "{source}");
    }
    assert_eq!(render("{{ [][::-1] }}{{ messages[5:] }}").unwrap(), "[][]");
}

#[test]
fn sums_and_products_are_those_of_python() {
    for (expression, printed) in [
        ("1 + 2 * 3 - 4 + 5", "8"),
        ("'a' + 'b' ~ 1 + 'c'", "ab1c"),
        ("[1] + [2] + [3]", "[1, 2, 3]"),
        ("(1, 2) + (3,)", "(1, 2, 3)"),
        ("true + 1", "2"),
        ("1 + 0.5", "1.5"),
        ("-1 + 2", "1"),
        ("'ab' * 2 + 'c'", "ababc"),
        ("[0] * 2 + [1]", "[0, 0, 1]"),
        ("('x' if 1 + 1 == 2 else 'y') + 'z'", "xz"),
        ("{'k': 'a' + 'b'}['k']", "ab"),
        ("messages[0 + 0]['role'] + '!'", "user!"),
        ("'abcd'[1 + 1:] + 'e'", "cde"),
    ] {
        assert_eq!(
            render(&format!("{{{{ {expression} }}}}")).unwrap(),
            printed,
            "{expression}"
        );
    }
    assert_eq!(
        render("{% set set = 'a' + 'b' %}{% if 1 + 1 > 1 and set + set != '' %}{{ set+set }}{% endif %}")
            .unwrap(),
        "abab"
    );
    assert_eq!(
        render("{% for i in [1] + [2] if i + 1 > 2 %}{{ i }}{% endfor %}").unwrap(),
        "2"
    );
    for wrong in ["'a' + 1", "[1] + (2,)", "none + 1"] {
        assert!(render(&format!("{{{{ {wrong} }}}}")).is_err(), "{wrong}");
    }
}

#[test]
fn one_rendering_pays_for_what_it_makes_and_the_next_begins_anew() {
    let much = template("{% for i in range(100) %}{% set x = 'x'.ljust(1000000) %}{% endfor %}ok");
    for _ in 0..2 {
        assert_eq!(much.render(&[], false).unwrap(), "ok");
    }
    let compared = template("{{ range(100000)|unique|list|length }}");
    assert!(
        compared.render(&[], false).is_err(),
        "each with every other"
    );
    let more = template("{% for i in range(200) %}{% set x = 'x'.ljust(1000000) %}{% endfor %}ok");
    let message = more.render(&[], false).unwrap_err();
    assert!(message.contains("128 MiB"), "{message}");
}

#[test]
fn what_takes_too_long_is_given_up_and_not_begun_again() {
    let given_up = AtomicBool::new(false);
    let limit = std::time::Duration::from_millis(20);
    assert_eq!(watched::watched(&given_up, limit, || 1), Ok(1));
    let endless = || loop {
        std::thread::park();
    };
    let message = watched::watched::<()>(&given_up, limit, endless).unwrap_err();
    assert!(message.contains("longer than 0.02 s"), "{message}");
    let begun = Arc::new(AtomicBool::new(false));
    let told = begun.clone();
    let work = move || told.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(watched::watched(&given_up, limit, work), Err(message));
    assert!(!begun.load(std::sync::atomic::Ordering::Acquire));
}

#[test]
fn what_does_not_end_soon_ends_in_the_same_text() {
    let long =
        "{% for i in range(20000) %}{{ i % 10 }}{% endfor %}{{ 'x'.ljust(300000) | length }}";
    let text = render(long).unwrap();
    assert_eq!(text.len(), 20_006);
    assert!(text.starts_with("0123456789") && text.ends_with("300000"));
}

#[test]
fn widths_of_a_format_are_told_from_numbers_in_its_text() {
    for (expression, printed) in [
        ("'12345: %s'|format(1)", "12345: 1"),
        ("'%05d'|format(42)", "00042"),
        ("'5% of 12345: {:>4}'.format(1)", "5% of 12345:    1"),
    ] {
        assert_eq!(render(&format!("{{{{ {expression} }}}}")).unwrap(), printed);
    }
    for wide in [
        "'%099999d'|format(1)",
        "'%*d'|format(9, 1)",
        "'{:>99999}'.format(1)",
    ] {
        let message = render(&format!("{{{{ {wide} }}}}")).unwrap_err();
        assert!(message.contains("width"), "{wide}: {message}");
    }
}
