//! The commented recipe that `idiolect init` writes.

use idiolect_core::record::TaskName;

/// A recipe for a task with every table and its defaults.
pub fn recipe_for(task: TaskName) -> String {
    let columns = match task {
        TaskName::Gsm8k => "question = \"question\", answer = \"answer\"",
        TaskName::Math => "problem = \"problem\", solution = \"solution\"",
        TaskName::Countdown => "numbers = \"nums\", target = \"target\"",
        TaskName::Mbpp => "text = \"text\", test_list = \"test_list\"",
    };
    include_str!("template.toml")
        .replace("{task}", &task.to_string())
        .replace("{columns}", columns)
}

#[cfg(test)]
mod tests {
    use super::super::resolve::resolve;
    use super::*;

    #[test]
    fn what_is_written_is_a_recipe_and_its_comments_are_the_defaults() {
        for task in TaskName::ALL {
            let text = recipe_for(task);
            let plain = resolve(&text, "init", &[]).unwrap();
            // `# key = value  # what it is` set free.
            let free: String = text
                .lines()
                .map(|line| match line.strip_prefix("# ") {
                    Some(rest) if rest.contains(" = ") && !rest.starts_with('#') => {
                        format!("{rest}\n")
                    }
                    _ => format!("{line}\n"),
                })
                .collect();
            let all = resolve(&free, "init, comments set free", &[]).unwrap();
            assert_eq!(all.train, plain.train, "{task}");
            assert_eq!(all.eval, plain.eval, "{task}");
            assert_eq!(all.generate, plain.generate, "{task}");
            assert_eq!(all.paraphrase, plain.paraphrase, "{task}");
            assert_eq!(all.execute, plain.execute, "{task}");
        }
    }
}
