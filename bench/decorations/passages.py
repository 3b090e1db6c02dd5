"""The text that holds the value: where it is stated, what follows in the sentence, what comes before and
after."""

import re

from decorations.values import COUNTABLE, number, words_of, write

# (value, other value, generator) to text behind a stated value. The value is stated; the rest gives a
# reason, repeats it or names what it is not.


def because(value, other, rng):
    a, b = small(rng, value, other, 2)
    return rng.choice(
        (
            f" because {a} + {b} = {a + b}",
            f", because {a} + {b} = {a + b} and {b} is less than {a + b}",
            f" since {a} times {b} is {a * b}",
            f", as {a} - {b} = {a - b}",
            f", since {a * b} / {b} = {a}",
            f"; this follows from {a} + {b} = {a + b}",
            f" – as {a} + {b} = {a + b}",
            " because each pair cancels",
            f" because there are {a} of them on each of the {b} sides",
        )
    )


def not_other(value, other, rng):
    text = write(other).text or write(other).math
    return rng.choice(
        (", not {}", " (not {})", ", and not {}", ", not the {} I had before", " rather than {}", " instead of {}")
    ).format(text)


def in_parens(value, other, rng):
    if value.kind == "integer" and words_of(value.data):
        return f" ({words_of(value.data)})"
    return " (exactly)" if value.kind not in ("choice", "word") else " (see above)"


def sum_in_parens(value, other, rng):
    if value.kind not in ("integer", "large") or value.data < 3:
        return None
    a = rng.randrange(1, value.data)
    return rng.choice(
        (
            f" ({a}+{value.data - a})",
            f" ({a} + {value.data - a})",
            f" (= {a} + {value.data - a})",
            f" (that is, {a} + {value.data - a})",
        )
    )


def in_total(value, other, rng):
    if value.kind not in COUNTABLE:
        return None
    return rng.choice(
        (" in total", " altogether", ", in total", " clips, altogether", " per day", " each", " in all")
    )


def as_required(value, other, rng):
    return rng.choice(
        (
            ", as required",
            ", as claimed",
            ", which completes the proof",
            ", and we are done",
            ", so we are done",
            ". QED",
            " ✓",
            " ■",
            ", as was to be shown",
        )
    )


def compared(value, other, rng):
    if value.kind not in COUNTABLE:
        return None
    a, b = small(rng, value, other, 2)
    return rng.choice((f", which is {a} more than before", f", so {b} fewer than the {a + b} of last week"))


FOLLOW = {
    "because": because,
    "not other": not_other,
    "(remark)": in_parens,
    "(sum)": sum_in_parens,
    "in total": in_total,
    "as required": as_required,
    "compared": compared,
}


def small(rng, value, other, count):
    """Distinct small numbers that are neither value nor the other one."""
    taken = {number(value), number(other)} if value else set()
    return rng.sample([n for n in range(2, 60) if n not in taken], count)


def steps(rng, value, other):
    """A working whose numbers are neither of the two."""
    a, b, c = small(rng, value, other, 3)
    return rng.choice(
        (
            "Working it out.",
            f"First {a} + {b} = {a + b}, and {a + b} * {c} = {(a + b) * c}.",
            f"We add {a} and {b} to {a + b}.",
            f"Step 1: {a} * {b} = {a * b}.\nStep 2: {a * b} - {c} = {a * b - c}.",
            f"1. There are {a} boxes.\n2. Each holds {b}, so {a * b} in all.",
            f"- {a} in the morning\n- {b} in the evening, which makes {a + b}",
            "Let me think about what is asked.",
            f"Let $u = {a}$. Then $u + {b} = {a + b}$.",
        )
    )


def stated(form, rng):
    """A statement of an answer, as a thinking block or a next problem holds it."""
    math = form.math or form.text
    text = form.text or f"${form.math}$"
    return rng.choice(
        (
            f"So the answer is {text}.",
            f"\\boxed{{{math}}}",
            f"Final Answer: The final answer is ${math}$. I hope it is correct.",
            f"#### {text}",
            f"The answer is {text}.",
            f"**Answer:** {text}",
        )
    )


def thinking(opening, closing):
    def before(body, value, other, rng):
        return f"{opening}{rng.choice((steps(rng, value, other) + ' ', ''))}{stated(write(other), rng)}{closing}{body}"

    return before


def thinking_two(body, value, other, rng):
    return f"<think>{steps(rng, value, other)}</think>\n<think>\n{stated(write(other), rng)}\n</think>\n{body}"


def thinking_harmony(body, value, other, rng):
    return f"<|channel|>analysis<|message|>{stated(write(other), rng)}<|end|><|start|>assistant<|channel|>final<|message|>{body}"


def boxed_step(body, value, other, rng):
    a, b = small(rng, value, other, 2)
    return (
        rng.choice(
            (
                f"The relation is $\\boxed{{p = {a}q}}$, q = {b}.",
                f"The small crate holds \\boxed{{{a}}} of them. That is not yet what was asked.",
                f"Step 1 gives $\\boxed{{{a * b}}}$, which we need below.",
            )
        )
        + "\n\n"
        + body
    )


def retracted(body, value, other, rng):
    text = write(other).text or f"${write(other).math}$"
    return (
        rng.choice(
            (
                "First guess: the answer is {}. But that forgets one case.",
                "The answer is {}. Wait, that is wrong.",
                "I first thought that the answer was {}, which cannot be.",
            )
        ).format(text)
        + "\n\n"
        + body
    )


# Thinking is not the answer: the answer is what follows its end.
BEFORE = {
    "<think>": thinking("<think>", "</think>"),
    "<think> lines": thinking("<think>\n", "\n</think>\n\n"),
    "only </think>": thinking("", "\n</think>\n\n"),
    "<think> twice": thinking_two,
    "<thinking>": thinking("<thinking>", "</thinking>\n"),
    "[THINK]": thinking("[THINK]", "[/THINK]"),
    "◁think▷": thinking("◁think▷", "◁/think▷"),
    "<seed:think>": thinking("<seed:think>", "</seed:think>"),
    "<|channel|>": thinking_harmony,
    "boxed step": boxed_step,
    "retracted": retracted,
    "<reasoning>": thinking("<reasoning>\n", "\n</reasoning>\n"),
}
NEED_STATEMENT = {"boxed step", "retracted"}

MARKERS = [
    "<|endoftext|>",
    "<|im_end|>",
    "</s>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<eos>",
    "<|end|>",
    "<｜end▁of▁sentence｜>",
    "<|return|>",
    "<|eom_id|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|endofturn|>",
    "<|end_of_turn|>",
    "<|im_end|>\n<|endoftext|>",
    "<|user|>",
    "<|im_start|>user",
    "<start_of_turn>user",
    "[INST]",
    "<turn|>",
    "<|start_header_id|>user<|end_header_id|>",
    "<|EOT|>",
    "<|begin_of_text|>",
]


def marker(body, task, rival, rng):
    mark = rng.choice(MARKERS)
    return (
        body
        + rng.choice(("", "\n"))
        + mark
        + rng.choice(
            (
                "",
                "",
                f"Human: another one\n{rival}",
                f"\n{rival}",
                f"<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n{rival}",
                f" {rival}",
                f"\n\n{rival}<|im_end|>",
            )
        )
    )


# The formats of prompts/ and those that base models have seen most often.
NEXT = {
    "math": [("\n\nProblem:\nFind $x$ if $x + 3 = 10$.\n\nSolution:\n", "own prompt")],
    "gsm8k": [
        ("\n\nProblem:\nAnn has 3 hats and buys 4. How many hats does she have?\n\nSolution:\n", "own prompt"),
        ("\n\nQuestion: Ann has 3 hats and buys 4. How many hats does she have?\nAnswer: ", "own prompt"),
        ("\nQuestion: Tom runs 5 miles a day. How far does he run in a week?\nAnswer: ", "own prompt"),
    ],
    "countdown": [
        (
            "\n\nProblem:\nUsing the numbers [1, 2], create an equation that equals 3. Use each number exactly once, and only +, -, *, / and parentheses.\n\nSolution:\n",
            "own prompt",
        ),
        (
            "\nProblem:\nUsing the numbers [9, 2, 4], create an equation that equals 14. Use each number exactly once, and only +, -, *, / and parentheses.\n\nSolution:\n9 + 4 = 13\n",
            "own prompt",
        ),
    ],
}
COMMON_NEXT = [
    "\n\nQ: What is 3 + 4?\nA: ",
    "\n\nQuestion: What is 3 + 4?\nAnswer: ",
    "\n\n### Instruction:\nWhat is 3 + 4?\n\n### Response:\n",
    "\n\nHuman: What is 3 + 4?\n\nAssistant: ",
    "\n\nUser: What is 3 + 4?\nAssistant: ",
    "\n\nProblem: What is 3 + 4?\nSolution: ",
    "\n\n### Question:\nWhat is 3 + 4?\n\n### Answer:\n",
    "\n\n**Problem:** What is 3 + 4?\n\n**Solution:** ",
    "\n\n## Problem 2\nWhat is 3 + 4?\n\n## Solution\n",
    "\n\nQuestion 2: What is 3 + 4?\nAnswer 2: ",
    "\n\nProblem 2:\nWhat is 3 + 4?\n\nSolution:\n",
    "\n\nInput: What is 3 + 4?\nOutput: ",
]


def own_next(body, task, rival, rng):
    return body + rng.choice(NEXT[task])[0] + rival


def common_next(body, task, rival, rng):
    return body + rng.choice(COMMON_NEXT) + rival


def many_next(body, task, rival, rng):
    return body + rng.choice(NEXT[task])[0] + rival + rng.choice(NEXT[task])[0] + "3 + 4 = 7"


def cut_next(body, task, rival, rng):
    # A next problem that the length limit cut off.
    text = rng.choice(NEXT[task])[0]
    return body + text[: rng.randrange(len(text) // 2, len(text))]


def politeness(body, task, rival, rng):
    return body + rng.choice(
        (
            "\n\nLet me know if you need anything else!",
            "\n\nI hope this helps!",
            "\n\nWould you like to see another example?",
            "\n\nFeel free to ask if anything is unclear.",
            "\n",
            "   \n\n",
            "\n\n---",
        )
    )


AFTER = {
    "end marker": marker,
    "next problem (own prompt)": own_next,
    "next problem (common)": common_next,
    "two next problems": many_next,
    "next problem cut off": cut_next,
    "polite ending": politeness,
}


# name: (mode, template, states an answer, weight). `{s}` steps, `{v}` the value, `{f}` what follows it.
POSITIONS = {
    "alone": ("alone", "{v}", False, 2),
    "alone in dollars": ("math", "${v}$", False, 1),
    "boxed": ("math", "{s}\n\n\\boxed{{{v}}}", True, 5),
    "boxed only": ("math", "\\boxed{{{v}}}", True, 1),
    "boxed in sentence": ("math", "{s} So the answer is $\\boxed{{{v}}}$.", True, 2),
    "\\boxed{ }": ("math", "{s}\nHence \\[ \\boxed{{ {v} }} \\]", True, 1),
    "The answer is": ("sentence", "{s}\nThe answer is {v}{f}.", True, 4),
    "the answer is therefore": ("sentence", "{s}\n\nthe answer is therefore {v}{f}.", True, 1),
    "My reply is": ("sentence", "{s}\n\nMy reply is {v}{f}.", True, 1),
    "So the final answer is": ("sentence", "{s}\n\nSo, the final answer is: {v}{f}.", True, 1),
    "The correct answer is": ("sentence", "{s} The correct answer is {v}{f}.", True, 1),
    "bold sentence": ("sentence", "{s}\n\n**The answer is {v}{f}.**", True, 1),
    "middle": ("sentence", "{s}\nThe answer is {v}{f}. I hope it is correct.", True, 1),
    "middle with remark": (
        "sentence",
        "{s}\nThe answer is {v}{f}.\n\nThis seems plausible, and the working above confirms it.",
        True,
        1,
    ),
    "minerva": ("math", "{s}\nFinal Answer: The final answer is ${v}$. I hope it is correct.", True, 3),
    "Final Answer:": ("sentence", "{s}\nFinal Answer: {v}{f}", True, 2),
    "Final answer (as a number)": ("sentence", "{s}\n\nFinal answer (simplified): {v}{f}", True, 1),
    "**Final Answer** box": ("math", "{s}\n\n**Final Answer**\n\n\\boxed{{{v}}}", True, 1),
    "**Final Answer:**": ("sentence", "{s}\n\n**Final Answer:** {v}{f}", True, 1),
    "**Answer:**": ("sentence", "{s}\n\n**Answer:** {v}{f}", True, 2),
    "**Answer: v**": ("sentence", "{s}\n\n**Answer: {v}{f}**", True, 1),
    "### Answer": ("sentence", "{s}\n\n### Final Answer\n\n{v}{f}", True, 1),
    "Answer:": ("sentence", "{s}\nAnswer: {v}{f}", True, 2),
    "[Answer: v]": ("math", "{s}\n\\[Answer: {v}\\]", True, 1),
    "bullet": ("sentence", "{s}\n\nThe answer is:\n- {v}{f}", True, 1),
    "star bullet": ("sentence", "{s}\n\nThe answer is:\n* {v}{f}", True, 1),
    "round bullet": ("sentence", "{s}\n\nFinal answer:\n• {v}{f}", True, 1),
    "next line": ("sentence", "{s}\n\nThe answer is:\n\n{v}{f}", True, 1),
    "display": ("math", "{s}\n\nThe answer is\n$$\n{v}\n$$", True, 1),
    "tag": ("sentence", "{s}\n<answer>{v}</answer>", True, 1),
    "tag lines": ("sentence", "{s}\n<answer>\n{v}\n</answer>", True, 1),
    "####": ("text", "{s}\n#### {v}", True, 5),
    "#### only": ("text", "#### {v}", True, 1),
    "last line": ("text", "{s}\n\nSo Mary has {v}{f}.", False, 2),
    "last sentence": ("text", "{s} Therefore, Jane earns {v}{f}.", False, 1),
    "box left open": ("math", "{s}\n\n\\boxed{{{v}", True, 1),
    "box closed twice": ("math", "{s}\n\n\\boxed{{{v}}}}}", True, 1),
}
POSITIONS_OF = {
    # `####` and the plain last sentence are GSM8K's own.
    "math": [p for p in POSITIONS if not p.startswith("####") and not p.startswith("last")],
    "gsm8k": [
        p for p in POSITIONS if p not in ("alone in dollars", "[Answer: v]", "box left open", "box closed twice")
    ],
}


def place(task, position, form, value, other, follow, rng):
    """The answer's text, or None where the form cannot be there."""
    mode, template, _, _ = POSITIONS[position]
    if mode == "alone":
        options = [t for t in (form.math, form.text) if t]
    elif mode == "math":
        options = [form.math] if form.math else []
        # Dollars within dollars end them.
        if (
            options
            and re.search(r"(?<!\\)\$", form.math)
            and "boxed" not in template
            and position != "alone in dollars"
        ):
            return None
    elif mode == "text":
        options = [form.text] if form.text else []
    else:
        options = ([form.text] if form.text else []) + (
            [rng.choice((f"${form.math}$", f"\\({form.math}\\)"))] if form.math and "$" not in form.math else []
        )
    if not options:
        return None
    text = rng.choice(options)
    if follow and "{f}" not in template:
        return None
    behind = ""
    if follow:
        behind = FOLLOW[follow](value, other, rng)
        if behind is None or follow == "(sum)" and not text[-1].isdigit():
            return None
    if "**" in template and ("*" in text or "*" in behind):
        return None
    answer = template.format(s=steps(rng, value, other), v=text, f=behind)
    # An abbreviation's point and the sentence's are one.
    return re.sub(r"\.\.(?=\s|$|\*)", ".", answer)
