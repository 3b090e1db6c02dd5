//! The part of a response that counts, found once before any task looks for an answer.
//!
//! A response may think first, run into the markers that end a turn, and go on with a next problem
//! in the format of its prompt. None of that is its answer. What is left is one span of the text:
//! records keep the whole, verdicts name the span.
//!
//! An introduction such as `Problem:` cuts only behind an answer: a solution may open by restating
//! its problem or ask itself a "Question:" on the way. How much of an answer is demanded depends on
//! how sure it is that the line opens another problem; see [`Weigh::begins_next`].

use std::sync::OnceLock;

use idiolect_math::Answered;

use super::{PromptFile, Task};
use crate::record::{ReadSpan, TaskName};

/// What reading found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The span that counts; it may be empty.
    Part(ReadSpan),
    /// The span that counts, and where it may end already: a line there introduces a next problem or
    /// a question that the response asks itself.
    Doubtful(ReadSpan, usize),
    /// Thinking was begun and not ended.
    Thinking,
}

/// Tags that hold thinking, opening and closing, without regard to case.
const THINKING: [(&str, &str); 11] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>", "<unused95>"),
];

/// Tags that hold visible reasoning. What they hold is passed over only where an answer follows.
const REASONING: [(&str, &str); 4] = [
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<reflection>", "</reflection>"),
    ("<analysis>", "</analysis>"),
];

/// Tokens that end a turn or a text or begin the next turn, beside all of the form `<|…|>`.
const ENDS: [&str; 19] = [
    "</s>",
    "<s>",
    "<eos>",
    "<bos>",
    "<pad>",
    "<end_of_turn>",
    "<start_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<|turn>",
    "<channel|>",
    "<|channel>",
    "[INST]",
    "[/INST]",
    "[|endofturn|]",
    "[|user|]",
    "[|assistant|]",
    "<extra_id_0>",
    "<extra_id_1>",
];

/// What begins the answer's channel where thinking has a channel of its own, and how that channel
/// begins.
const FINAL_CHANNEL: &str = "<|channel|>final<|message|>";
const THINKING_CHANNELS: [&str; 2] = ["<|channel|>analysis", "<|channel|>commentary"];

/// Introductions of problems and turns in common use, beside those of the task's own prompts.
const COMMON: [&str; 15] = [
    "Question:",
    "Problem:",
    "Q:",
    "Exercise:",
    "Input:",
    "Human:",
    "User:",
    "Instruction:",
    "### Instruction",
    "### Question",
    "### Problem",
    "### Human",
    "### User",
    "## Question",
    "## Problem",
];

/// Words that introduce a problem with a number behind them: `Problem 2:`, `## Question 2`.
const NUMBERED: [&str; 5] = ["Question", "Problem", "Exercise", "Example", "Q"];

/// What introduces the answer to a problem.
const ANSWERS: [&str; 9] = [
    "A:",
    "Assistant:",
    "### Response",
    "## Response",
    "Response:",
    "Answer",
    "Solution",
    "Output:",
    "[BEGIN]",
];

/// So many introductions are weighed; each costs a look for an answer before it.
const MOST_WEIGHED: usize = 16;

/// An answer is within so many bytes before the next problem, and the answer to that so many
/// behind its introduction.
const WINDOW: usize = 20_000;

/// An introduction this long is no line of a solution.
const UNMISTAKABLE: usize = 20;

/// Finds the part of a response that counts. `introduction` is how the prompt that was used
/// introduces a problem, where that is known.
pub(super) fn read<T: Task + ?Sized>(task: &T, text: &str, introduction: Option<&str>) -> Reading {
    let mut weigh = Weigh {
        task,
        introduction,
        left: MOST_WEIGHED,
    };
    let mut start = match text.find(FINAL_CHANNEL) {
        Some(at) => at + FINAL_CHANNEL.len(),
        None if THINKING_CHANNELS.iter().any(|tag| text.contains(tag)) => return Reading::Thinking,
        None => final_after_bare_analysis(text).unwrap_or(0),
    };
    start = after_reasoning(text, after_opening(text, start));
    let mut thought = false;
    let mut doubt = None;
    let end = loop {
        let tag = next_tag(text, start);
        let until = tag.map_or(text.len(), |(at, _)| at);
        // Before a lone closing tag all is thinking, introductions included.
        if !matches!(tag, Some((_, Tag::Closes(_)))) {
            let (next, perhaps) = weigh.next_problem(text, start, until);
            doubt = doubt.or(perhaps);
            if let Some(at) = next {
                break at;
            }
        }
        match tag {
            None => break text.len(),
            Some((at, Tag::Ends)) => break at,
            // A second closing tag after which nothing comes is a slip.
            Some((at, Tag::Closes(length))) if thought && is_blank(&text[at + length..]) => {
                break at;
            }
            Some((at, Tag::Closes(length))) => start = after_opening(text, at + length),
            Some((at, Tag::Opens(pair, length))) => match closing(&text[at + length..], pair) {
                None => return Reading::Thinking,
                Some(after) => start = after_opening(text, at + length + after),
            },
        }
        thought = true;
    };
    let span = ReadSpan { start, end };
    match doubt.filter(|at| *at > start) {
        Some(at) => Reading::Doubtful(span, at),
        None => Reading::Part(span),
    }
}

/// The part of a response that counts, by what its text shows alone; `None` where it still thinks.
pub(super) fn part_of<'a, T: Task + ?Sized>(task: &T, text: &'a str) -> Option<&'a str> {
    match read(task, text, None) {
        Reading::Thinking => None,
        Reading::Part(span) | Reading::Doubtful(span, _) => Some(&text[span.start..span.end]),
    }
}

/// Where the answer begins in a response of channels whose special tokens were left out.
fn final_after_bare_analysis(text: &str) -> Option<usize> {
    const FINAL: &str = "assistantfinal";
    text.starts_with("analysis")
        .then(|| text.find(FINAL).map(|at| at + FINAL.len()))?
}

fn is_blank(text: &str) -> bool {
    !text.contains(char::is_alphanumeric)
}

/// Passes over a byte order mark, and over tokens and the role that open a turn.
fn after_opening(text: &str, start: usize) -> usize {
    let mut at = start;
    loop {
        let rest = text[at..].trim_start();
        if let Some(after) = rest.strip_prefix('\u{feff}') {
            at = text.len() - after.len();
            continue;
        }
        let Some(length) = end_token(rest) else {
            return at;
        };
        at = text.len() - rest.len() + length;
        for role in ["assistant", "model"] {
            if let Some(after) = text[at..].strip_prefix(role)
                && (after.starts_with('\n') || end_token(after).is_some())
            {
                at += role.len();
            }
        }
    }
}

/// Passes over visible reasoning that opens a response, where something follows it.
fn after_reasoning(text: &str, start: usize) -> usize {
    let rest = text[start..].trim_start();
    for (open, close) in REASONING {
        if starts_ignoring_case(rest, open)
            && let Some(at) = find_ignoring_case(rest, close)
            && !is_blank(&rest[at + close.len()..])
        {
            return text.len() - rest.len() + at + close.len();
        }
    }
    start
}

/// A tag and its length in bytes.
#[derive(Clone, Copy)]
enum Tag {
    /// Opens thinking, with the index of its pair.
    Opens(usize, usize),
    Closes(usize),
    Ends,
}

/// The first tag at or after `from`.
fn next_tag(text: &str, from: usize) -> Option<(usize, Tag)> {
    let mut at = from;
    loop {
        at += text[at..].find(['<', '[', '◁'])?;
        if let Some(tag) = tag(&text[at..])
            && !is_quoted(text, at)
        {
            let strikes = text[at..].starts_with("</s>") && text[from..at].contains("<s>");
            if !strikes {
                return Some((at, tag));
            }
        }
        at += text[at..].chars().next().map_or(1, char::len_utf8);
    }
}

/// Whether the tag at `at` is in quotes, and so is spoken of.
fn is_quoted(text: &str, at: usize) -> bool {
    let Some(quote) = text[..at].chars().next_back() else {
        return false;
    };
    let close = match quote {
        '“' => '”',
        '‘' => '’',
        '\'' | '"' | '`' => quote,
        _ => return false,
    };
    let after = text[at..]
        .find(['>', ']', '▷'])
        .map(|end| text[at + end..].trim_start_matches(['>', ']', '▷']));
    after.is_some_and(|after| after.starts_with(close))
}

fn tag(text: &str) -> Option<Tag> {
    for (index, (open, close)) in THINKING.iter().enumerate() {
        if starts_ignoring_case(text, open) {
            return Some(Tag::Opens(index, open.len()));
        }
        if starts_ignoring_case(text, close) {
            return Some(Tag::Closes(close.len()));
        }
    }
    // `<s>` opens texts only; elsewhere it strikes out.
    let ends = !text.starts_with("<s>") && end_token(text).is_some();
    ends.then_some(Tag::Ends)
}

/// The bytes after the tag that closes a pair, or another pair where that one never closes.
fn closing(text: &str, pair: usize) -> Option<usize> {
    let after = |close: &str| find_ignoring_case(text, close).map(|at| at + close.len());
    after(THINKING[pair].1).or_else(|| THINKING.iter().filter_map(|(_, close)| after(close)).min())
}

/// The length of the special token that `text` begins with: of [`ENDS`], or a name in `<|…|>`.
fn end_token(text: &str) -> Option<usize> {
    if let Some(token) = ENDS.iter().find(|token| starts_ignoring_case(text, token)) {
        return Some(token.len());
    }
    let (open, close) = [("<|", "|>"), ("<｜", "｜>")]
        .into_iter()
        .find(|(open, _)| text.starts_with(open))?;
    let inside = &text[open.len()..];
    let name = inside
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '▁' | '-' | ' ')))
        .filter(|length| (3..=40).contains(length))?;
    inside[name..]
        .starts_with(close)
        .then_some(open.len() + name + close.len())
}

fn starts_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes()
        .get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

/// The first place of an ASCII-insensitive `word` in `text`.
fn find_ignoring_case(text: &str, word: &str) -> Option<usize> {
    let first = word.chars().next()?;
    let mut at = 0;
    loop {
        at += text[at..].find(first)?;
        if starts_ignoring_case(&text[at..], word) {
            return Some(at);
        }
        at += first.len_utf8();
    }
}

/// Weighs lines that may introduce a next problem.
struct Weigh<'a, T: ?Sized> {
    task: &'a T,
    introduction: Option<&'a str>,
    left: usize,
}

/// A line that may introduce a problem.
struct Introduction<'a> {
    text: &'a str,
    /// Whether only a prompt writes so: the prompt that was used, or an unmistakable line.
    of_prompt: bool,
}

impl<T: Task + ?Sized> Weigh<'_, T> {
    /// The first line in `text[start..until]` that begins a next problem, and the first before it
    /// that may.
    fn next_problem(
        &mut self,
        text: &str,
        start: usize,
        until: usize,
    ) -> (Option<usize>, Option<usize>) {
        let mut seen: Vec<&str> = Vec::new();
        let mut doubt = None;
        let mut at = start;
        while at < until && self.left > 0 {
            let line = &text[at..until];
            if let Some(found) = self.introduction_of(line) {
                let before = &text[start..at];
                if !is_blank(before) {
                    self.left -= 1;
                    match self.begins_next(&found, before, line, &seen) {
                        Next::Yes => return (Some(at), doubt),
                        Next::Perhaps => doubt = doubt.or(Some(at)),
                        Next::No => {}
                    }
                }
                seen.push(found.text);
            }
            at += line.find('\n').map_or(line.len(), |i| i + 1);
        }
        (None, doubt)
    }

    fn introduction_of<'t>(&self, line: &'t str) -> Option<Introduction<'t>> {
        let exact = |word: &str| {
            let after = line.strip_prefix(word)?;
            let whole =
                !word.ends_with(char::is_alphanumeric) || !after.starts_with(char::is_alphanumeric);
            whole.then(|| &line[..word.len()])
        };
        if let Some(text) = self.introduction.and_then(exact) {
            let of_prompt = text.ends_with(':') || text.starts_with(['#', '[', '<']);
            return Some(Introduction {
                of_prompt: of_prompt || text.len() >= UNMISTAKABLE,
                text,
            });
        }
        if let Some(text) = introductions(self.task).iter().find_map(|word| exact(word)) {
            return Some(Introduction {
                of_prompt: text.len() >= UNMISTAKABLE,
                text,
            });
        }
        common_introduction(line).map(|text| Introduction {
            text,
            of_prompt: false,
        })
    }

    /// Whether a line that may introduce a problem does, given the text before it. A prompt's own
    /// words do behind anything that could be an answer. Words in common use do behind a stated
    /// answer, or where a blank line parts them and the answer to them is introduced as well. A
    /// response that has used the same words before asks itself, until it closes.
    fn begins_next(
        &self,
        found: &Introduction<'_>,
        before: &str,
        line: &str,
        seen: &[&str],
    ) -> Next {
        let answered = self.task.answered(last_bytes(before, WINDOW));
        if seen.contains(&found.text) {
            return match answered {
                Answered::Closed => Next::Yes,
                _ => Next::No,
            };
        }
        match answered {
            Answered::Nothing => Next::No,
            Answered::Stated | Answered::Closed => Next::Yes,
            Answered::Loosely if found.of_prompt => Next::Yes,
            Answered::Loosely if is_apart(before) && introduces_answer(line) => Next::Yes,
            Answered::Loosely => Next::Perhaps,
        }
    }
}

/// The last `most` bytes of a text, from a whole character.
fn last_bytes(text: &str, most: usize) -> &str {
    let mut from = text.len().saturating_sub(most);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Whether a line begins a next problem.
enum Next {
    Yes,
    Perhaps,
    No,
}

fn common_introduction(line: &str) -> Option<&str> {
    let plain = line.trim_start_matches(['*', '_']);
    if let Some(word) = COMMON.iter().find(|word| plain.starts_with(**word)) {
        return Some(&plain[..word.len()]);
    }
    let heading = plain.trim_start_matches('#');
    let is_heading = heading.len() < plain.len();
    let heading = heading.strip_prefix(' ').unwrap_or(heading);
    let word = NUMBERED.iter().find(|word| heading.starts_with(**word))?;
    let number = heading[word.len()..].trim_start_matches([' ', '#']);
    let after = number.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = after.len() < number.len()
        && (after.starts_with([':', '.', ')']) || (is_heading && after.starts_with('\n')));
    numbered.then(|| &heading[..word.len()])
}

/// Whether a blank line ends a text.
fn is_apart(before: &str) -> bool {
    before.trim_end_matches([' ', '\t']).ends_with("\n\n")
}

/// Whether a line below the first introduces an answer.
fn introduces_answer(text: &str) -> bool {
    let mut left = WINDOW;
    let mut near = text.lines().take_while(|line| {
        left = left.saturating_sub(line.len() + 1);
        left > 0
    });
    near.next();
    near.any(|line| {
        let plain = line.trim_start_matches(['*', '_', '#', ' ']);
        ANSWERS
            .iter()
            .any(|word| line.starts_with(word) || plain.starts_with(word))
    })
}

/// How the built-in prompts of a task introduce a problem.
fn introductions<T: Task + ?Sized>(task: &T) -> &'static [String] {
    static OF_TASKS: [OnceLock<Vec<String>>; TaskName::ALL.len()] =
        [const { OnceLock::new() }; TaskName::ALL.len()];
    OF_TASKS[task.name() as usize].get_or_init(|| {
        let mut all: Vec<String> = Vec::new();
        for (name, text) in task.prompt_files() {
            let own = PromptFile::new(name, text).introduction();
            all.extend(own.filter(|words| !all.contains(words)));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::task;
    use super::*;

    /// The part that is read of a response to a task's problem.
    fn part_as(name: TaskName, text: &str, introduction: Option<&str>) -> Option<String> {
        match read(task(name), text, introduction) {
            Reading::Thinking => None,
            Reading::Part(span) | Reading::Doubtful(span, _) => {
                Some(text[span.start..span.end].to_owned())
            }
        }
    }

    fn part(text: &str) -> Option<String> {
        part_as(TaskName::Gsm8k, text, None)
    }

    #[test]
    fn thinking_is_passed_over_and_must_end() {
        for (text, expected) in [
            ("<think>Perhaps 5.</think> It is 14.", " It is 14."),
            ("<Think>\n5\n</Think>\n14", "\n14"),
            ("<thinking>5</thinking>14", "14"),
            ("[THINK]5[/THINK]14", "14"),
            ("◁think▷5◁/think▷14", "14"),
            ("<seed:think>5</seed:think>14", "14"),
            ("<|channel>thought\n5<channel|>14", "14"),
            (
                "<|begin_of_thought|>5<|end_of_thought|><|begin_of_solution|>14<|end_of_solution|>",
                "14",
            ),
            (
                "<|START_THINKING|>5<|END_THINKING|><|START_RESPONSE|>14<|END_RESPONSE|>",
                "14",
            ),
            (
                "<|channel|>analysis<|message|>5<|end|><|start|>assistant<|channel|>final<|message|>14<|return|>",
                "14",
            ),
            ("analysisIt could be 5.assistantfinal14", "14"),
            // The prompt's template opened the thinking.
            ("Perhaps 5.\nQuestion: is it?\n</think>\n14", "\n14"),
            ("Perhaps \\boxed{5}.\n</thinking>\n14", "\n14"),
            ("<think>a</think> 5 <think>b</think> 14", " 14"),
            ("<think>a</think> 14 </think>", " 14 "),
            ("<think>a</thinking>14", "14"),
            ("<think></think>", ""),
            // It has begun and will state more.
            (
                "<reasoning>5</reasoning>\n<answer>14</answer>",
                "\n<answer>14</answer>",
            ),
            (
                "<reasoning>it is 14</reasoning>\n",
                "<reasoning>it is 14</reasoning>\n",
            ),
            (
                "The tag `<think>` is 7 bytes.",
                "The tag `<think>` is 7 bytes.",
            ),
        ] {
            assert_eq!(part(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "<think>Perhaps the answer is 5. Let me see",
            "<|im_start|>assistant\n<think>\n5",
            "[THINK]5",
            "<|channel|>analysis<|message|>5",
            "It is 14. <think>Or 5",
        ] {
            assert_eq!(part(text), None, "{text}");
        }
    }

    #[test]
    fn a_turn_ends_at_its_markers() {
        for marker in [
            "<|endoftext|>",
            "<|im_end|>",
            "<|eot_id|>",
            "<|end_of_text|>",
            "<|end|>",
            "<|return|>",
            "<end_of_turn>",
            "<turn|>",
            "</s>",
            "<eos>",
            "<｜end▁of▁sentence｜>",
            "<|start_header_id|>user<|end_header_id|>",
            "<|im_start|>user",
            "[INST]",
            "[|endofturn|]",
        ] {
            let text = format!("It is 14.{marker}\nHuman: and 3 + 4?\nThe answer is 7.");
            assert_eq!(part(&text).as_deref(), Some("It is 14."), "{marker}");
        }
        for text in [
            "<|im_start|>assistant\nIt is 14.<|im_end|>",
            "<s> It is 14.</s>",
            "<start_of_turn>model\nIt is 14.<end_of_turn>",
            "\u{feff}It is 14.</s>",
            "Is it 3?</think>\n\u{feff}It is 14.",
            "<|start_header_id|>assistant<|end_header_id|>\n\nIt is 14.<|eot_id|>",
        ] {
            assert_eq!(part(text).unwrap().trim(), "It is 14.", "{text}");
        }
        for text in [
            "0 < |x| and |x|>3, so 14",
            "It <s>is</s> was 14",
            "a[INSTALL] = '</s>'",
            "<answer>14</answer> <b>14</b>",
        ] {
            assert_eq!(part(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_next_problem_is_cut_behind_an_answer() {
        for (own, next) in [
            "Final Answer: The final answer is $14$. I hope it is correct.",
            "So \\boxed{14}.",
            "#### 14",
            "The answer is 14.",
            "<answer>14</answer>",
        ]
        .into_iter()
        .flat_map(|own| {
            [
                "\n\nProblem:\nAnn has 3 hats and buys 4. How many?\n\nSolution:\n3 + 4 = 7.\n#### 7",
                "\nQuestion: Ann has 3 hats and buys 4. How many?\nAnswer: 7",
                "\n\nQ: Ann has 3 ha",
                "\n\n**Question:** 3 + 4?\n**Answer:** 7",
                "\nHuman: 3 + 4?\nAssistant: 7",
                "\n\n## Problem 2\n3 + 4?\n\n## Solution\n7",
                "\n\nInput: 3 + 4?\nOutput: 7",
                "\n### Instruction:\n3 + 4?\n### Response:\n7",
            ]
            .map(|next| (own, next))
        }) {
            let text = format!("He has 9 + 5 = 14 pens.\n{own}{next}");
            let expected = &text[..text.len() - next.trim_start().len()];
            assert_eq!(part(&text).as_deref(), Some(expected), "{text}");
        }
        // The last number is the answer, and a blank line and an introduced answer follow it.
        let text = "He has 9 + 5 = 14 pens.\n\nQuestion: Ann has 3 hats. How many?\nAnswer: 3";
        assert_eq!(part(text).as_deref(), Some("He has 9 + 5 = 14 pens.\n\n"));
    }

    #[test]
    fn a_line_that_may_go_either_way_is_left_in_doubt() {
        let own = "He has 9 + 5 = 14 pens.\n";
        for next in [
            "Question: Ann has 3 hats. How many?\nAnswer: 3",
            "\nProblem:\nAnn has 3 ha",
            "Problem 2: Ann has 3 hats.\nAnswer: 3",
        ] {
            let text = format!("{own}{next}");
            let found = read(task(TaskName::Gsm8k), &text, None);
            let end = text.len();
            let at = text.find(next.trim_start()).unwrap();
            let whole = ReadSpan { start: 0, end };
            assert_eq!(found, Reading::Doubtful(whole, at), "{text}");
        }
        // The second of its kind, behind an answer that closes, is none of the response's own.
        let text =
            format!("{own}Question: hats?\nAnswer: \\boxed{{3}}\n\nQuestion: shoes?\nAnswer: 7");
        let (start, end) = (0, text.rfind("Question:").unwrap());
        let found = read(task(TaskName::Gsm8k), &text, None);
        assert_eq!(found, Reading::Doubtful(ReadSpan { start, end }, own.len()));
    }

    #[test]
    fn the_words_of_the_prompt_that_was_used_need_no_more_than_a_number_before_them() {
        let text = "He has 9 + 5 = 14 pens.\nAufgabe: Ann hat 3 Hüte.\nAntwort: 3";
        let german = |text| part_as(TaskName::Gsm8k, text, Some("Aufgabe:"));
        assert_eq!(german(text).as_deref(), Some("He has 9 + 5 = 14 pens.\n"));
        assert_eq!(part(text).as_deref(), Some(text));
        let none_yet = "Wir lesen genau.\nAufgabe: 3 Hüte, also 3.";
        assert_eq!(german(none_yet).as_deref(), Some(none_yet));
    }

    #[test]
    fn what_an_answer_says_itself_is_not_cut() {
        for text in [
            "Problem: Ann has 3 hats and buys 4. How many?\n\nSolution: 3 + 4 = 7\n#### 7",
            "Question: how many in May?\nAnswer: 24\nQuestion: how many in all?\nAnswer: 72\n#### 72",
            "We ask two things.\nQuestion: how many in May? 24\nQuestion: in all? 72\nThe answer is 72.",
            "April had 48.\nQuestion: how many in May? 24, so the answer is 72.",
            "The problem: 3 + 4. Question: why?\n#### 7",
            "We ask twice.\nQuestion 1: in May? The answer is 24.\nQuestion 2: in all? The answer is 72.",
        ] {
            assert_eq!(part(text).as_deref(), Some(text));
        }
        let code = "```python\ndef f():\n    \"\"\"From [BEGIN] to [DONE].\n    Problem: none\n    \"\"\"\n    return 1\n```";
        assert_eq!(part_as(TaskName::Mbpp, code, None).as_deref(), Some(code));
    }

    #[test]
    fn every_task_ends_where_its_own_prompt_begins_again() {
        for (name, own) in [
            (TaskName::Gsm8k, "9 + 5 = 14\n#### 14\n\n"),
            (TaskName::Math, "So \\boxed{14}.\n\n"),
            (TaskName::Countdown, "<answer> 9 + 5 </answer>\n\n"),
            (TaskName::Mbpp, "def f(n):\n    return n\n[DONE]\n\n"),
        ] {
            for (_, prompt) in task(name).prompt_files() {
                let Some(words) = PromptFile::new("", prompt).introduction() else {
                    continue;
                };
                let text = format!("{own}{words}\nsomething else\n\nSolution:\n7");
                assert_eq!(part_as(name, &text, Some(&words)).as_deref(), Some(own));
                assert_eq!(part_as(name, &text, None).as_deref(), Some(own), "{words}");
            }
        }
    }

    #[test]
    fn hostile_text_is_read_in_bounded_time() {
        for piece in [
            "<",
            "<|",
            "<think>",
            "</think>",
            "<think></think>",
            "<reasoning>",
            "Question:\n",
            "#### 1\nQuestion:\n",
            "Question: 1\n\n",
            "<|a",
            "`<think>",
            "</s>",
            "'</s>",
            "[",
            "◁",
        ] {
            let text = piece.repeat(1_000_000 / piece.len());
            for name in TaskName::ALL {
                part_as(name, &text, Some("Question:"));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_within_itself(
            text in "(<think>|</think>|<\\|im_end\\|>|</s>|Question: |Problem:\n|#### 7|é|\n| 3|<|`|\\|>|[a-z ]{0,5}){0,25}",
            introduction in proptest::option::of("[A-Za-zé:]{0,6}"),
        ) {
            for name in TaskName::ALL {
                if let Some(part) = part_as(name, &text, introduction.as_deref()) {
                    prop_assert!(text.contains(&part));
                }
            }
        }
    }
}
