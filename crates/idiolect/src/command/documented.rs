//! Every command line that the documents and the help show is one that this program takes.

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::Arguments;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documents: name and text.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md"), root().join("python/README.md")];
    let pages = std::fs::read_dir(root().join("docs")).expect("docs/ is there");
    paths.extend(pages.filter_map(|entry| Some(entry.ok()?.path())));
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    paths.sort();
    let text = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&path).expect("documents are UTF-8");
        (name.into_owned(), text)
    };
    paths.into_iter().map(text).collect()
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let docs = root().join("docs");
    let contents =
        std::fs::read_to_string(docs.join("SUMMARY.md")).expect("docs/SUMMARY.md is there");
    for entry in std::fs::read_dir(&docs).expect("docs/ is there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            assert!(
                contents.contains(&format!("]({name})")),
                "{name} is not in docs/SUMMARY.md"
            );
        }
    }
}

/// The blocks between fences, each with the lines that end in `\` joined.
fn blocks(text: &str) -> Vec<String> {
    let parts = text.split("```").skip(1).step_by(2);
    let body = |block: &str| block.split_once('\n').map(|(_, body)| body.to_owned());
    parts
        .filter_map(body)
        .map(|b| b.replace("\\\n", " "))
        .collect()
}

/// The calls of this program in a block, as words: what a pipe, a redirection or a comment adds is
/// left out.
fn calls(block: &str) -> Vec<(String, Vec<String>)> {
    let is_variable = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        })
    };
    let mut calls = Vec::new();
    for line in block.lines() {
        for part in line.replace("&&", ";").split(';') {
            let Some(words) = shlex::split(part.trim().trim_start_matches("$ ")) else {
                continue;
            };
            let mut words = words.into_iter().skip_while(|word| is_variable(word));
            let by_cargo = ["cargo", "run", "--release", "--"];
            let rest: Vec<String> = match words.next().as_deref() {
                Some("idiolect") => words.collect(),
                Some("cargo") => match words.by_ref().take(3).eq(by_cargo[1..].iter().copied()) {
                    true => words.collect(),
                    false => continue,
                },
                _ => continue,
            };
            let ends = |word: &String| !matches!(word.as_str(), "|" | ">" | ">>" | "2>" | "&");
            let rest: Vec<String> = rest.into_iter().take_while(ends).collect();
            // `idiolect …` alone names the program in a table or a sentence.
            if !rest.is_empty() {
                calls.push((line.trim().to_owned(), rest));
            }
        }
    }
    calls
}

/// What is wrong with a call, in the first line of the parser's words. Placeholders of a usage line
/// (`[OPTIONS]`, `…`) make it no call.
fn fault(words: &[String]) -> Option<String> {
    if words
        .iter()
        .any(|word| word.contains(['…', '[', '<']) || word == "...")
    {
        return None;
    }
    let all = std::iter::once("idiolect").chain(words.iter().map(String::as_str));
    let error = Arguments::try_parse_from(all).err()?;
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    match error.kind() {
        DisplayHelp | DisplayVersion => None,
        _ => error.to_string().lines().next().map(str::to_owned),
    }
}

#[test]
fn documents_show_command_lines_that_are_taken() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (name, text) in documents() {
        for (line, words) in blocks(&text).iter().flat_map(|block| calls(block)) {
            seen += 1;
            wrong.extend(fault(&words).map(|why| format!("{name}: {line}\n    {why}")));
        }
    }
    assert!(
        seen > 30,
        "only {seen} calls were found: is the reading of blocks broken?"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn examples_of_the_help_are_taken() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for command in Arguments::command().get_subcommands() {
        let after = command.get_after_help().map(ToString::to_string);
        let text = after.unwrap_or_default().replace("\\\n", " ");
        for (line, words) in calls(&text) {
            seen += 1;
            wrong.extend(fault(&words).map(|why| format!("{line}\n    {why}")));
        }
    }
    assert!(seen > 40, "only {seen} examples were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_call_that_is_none_is_found() {
    let words = |line: &str| calls(line).remove(0).1;
    assert!(
        fault(&words(
            "IDIOLECT_DATA=d idiolect run x.toml --no-such-flag # why"
        ))
        .is_some()
    );
    assert!(fault(&words("cargo run --release -- runn")).is_some());
    assert_eq!(fault(&words("idiolect run x.toml > log # why")), None);
    assert!(calls("other run x").is_empty());
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for (name, text) in documents() {
        let folder = match name.as_str() {
            "README.md" if text.starts_with("# idiolect\n\n**") => root(),
            "README.md" => root().join("python"),
            _ => root().join("docs"),
        };
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
        {
            let target = link.0.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                wrong.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
