//! How a plot becomes sentences: drawn names, things and phrasings, and now and then a sentence
//! that does not matter.

use super::plot::{Ask, Event, Plot};
use idiolect_model::Rng;

/// People of the stories.
pub(super) const NAMES: [&str; 12] = [
    "ann", "ben", "cara", "dan", "eva", "finn", "gina", "hugo", "ida", "jon", "kim", "leo",
];
/// Things that they have.
pub(super) const THINGS: [&str; 12] = [
    "apples", "books", "cards", "coins", "eggs", "flowers", "marbles", "nuts", "pens", "shells",
    "stamps", "toys",
];

/// How often a sentence that does not matter is added.
const BESIDE_THE_POINT: f64 = 0.3;

/// `{a}` is the person that the story is about, `{b}` the other, `{o}` the things, `{k}` and `{n}`
/// the event's numbers (`{n}` alone where it has one).
const fn phrasings(event: Event) -> [&'static str; 3] {
    match event {
        Event::Have(_) => [
            "{a} has {n} {o} .",
            "there are {n} {o} in the room of {a} .",
            "{a} starts the day with {n} {o} .",
        ],
        Event::Packs(..) => [
            "{a} has {k} boxes with {n} {o} in each .",
            "{a} finds {n} {o} a day for {k} days .",
            "there are {k} rows of {n} {o} in the garden of {a} .",
        ],
        Event::Gain(_) => [
            "then {a} buys {n} more {o} .",
            "{b} gives {n} {o} to {a} .",
            "after lunch {n} new {o} are brought to {a} .",
        ],
        Event::Lose(_) => [
            "then {a} sells {n} {o} .",
            "{a} gives {n} {o} to {b} .",
            "on the way home {n} of them are lost .",
        ],
        Event::GainPacks(..) => [
            "then {a} buys {k} bags of {n} {o} each .",
            "each of {k} friends brings {n} {o} to {a} .",
            "{a} also finds {n} more a day for {k} days .",
        ],
        Event::LoseEach(..) => [
            "{a} gives {n} {o} to each of {k} friends .",
            "then {a} sells {k} bags of {n} {o} each .",
            "{a} loses {n} of them a day for {k} days .",
        ],
        Event::Grow(_) => [
            "a year later there are {n} times as many .",
            "then {a} cuts each of them into {n} .",
            "{a} trades each of them for {n} new ones .",
        ],
        Event::Share(_) => [
            "{a} puts them into {n} equal piles and keeps one pile .",
            "{a} shares them so that {n} people get the same , and keeps one share .",
            "then all but one of {n} equal parts are sold .",
        ],
        Event::More(_) => [
            "{b} has {n} more {o} than {a} .",
            "{a} has {n} fewer than {b} .",
            "with {n} more {a} would have as many as {b} .",
        ],
        Event::Fewer(_) => [
            "{b} has {n} fewer {o} than {a} .",
            "{a} has {n} more than {b} .",
            "with {n} more {b} would have as many as {a} .",
        ],
        Event::Times(_) => [
            "{b} has {n} times as many {o} as {a} .",
            "for each of them {b} has {n} .",
            "all that {a} has is one part in {n} of what {b} has .",
        ],
        Event::Part(_) => [
            "{a} has {n} times as many {o} as {b} .",
            "for each {n} of them {b} has one .",
            "all that {b} has is one part in {n} of what {a} has .",
        ],
    }
}

const BESIDE: [&str; 4] = [
    "{b} is {n} years old .",
    "the way home takes {n} minutes .",
    "a new bag costs {n} coins .",
    "there are {n} people in the room .",
];

const NOW: [&str; 3] = [
    "how many {o} does {a} have now ?",
    "how many {o} are left with {a} in the end ?",
    "in the end , what is the number of {o} that {a} has ?",
];

const TOGETHER: [&str; 3] = [
    "how many {o} do {b} and {a} have together ?",
    "what is the number of {o} that {a} and {b} have in all ?",
    "how many {o} are there if {a} and {b} put all together ?",
];

/// A plot in sentences.
pub(super) struct Narrative {
    /// The sentences without the question.
    pub(super) story: String,
    /// Asked at their end.
    pub(super) question: String,
}

/// Writes a plot in sentences.
pub(super) fn narrate(plot: &Plot, rng: &mut Rng) -> Narrative {
    let mut names = NAMES;
    rng.shuffle(&mut names);
    let thing = THINGS[rng.below(THINGS.len())];
    let (mut a, mut b) = (names[0], names[1]);
    let beside = rng
        .chance(BESIDE_THE_POINT)
        .then(|| 1 + rng.below(plot.events.len()));
    let mut sentences = Vec::with_capacity(plot.events.len() + 1);
    let fill = |text: &str, a: &str, b: &str, k: u32, n: u32| {
        text.replace("{a}", a)
            .replace("{b}", b)
            .replace("{o}", thing)
            .replace("{k}", &k.to_string())
            .replace("{n}", &n.to_string())
    };
    for (at, event) in plot.events.iter().enumerate() {
        if beside == Some(at) {
            let text = BESIDE[rng.below(BESIDE.len())];
            sentences.push(fill(text, a, b, 0, 2 + rng.below(38) as u32));
        }
        let (k, n) = match *event {
            Event::Packs(k, n) | Event::GainPacks(k, n) | Event::LoseEach(k, n) => (k, n),
            Event::Have(n)
            | Event::Gain(n)
            | Event::Lose(n)
            | Event::Grow(n)
            | Event::Share(n)
            | Event::More(n)
            | Event::Fewer(n)
            | Event::Times(n)
            | Event::Part(n) => (0, n),
        };
        sentences.push(fill(phrasings(*event)[rng.below(3)], a, b, k, n));
        if matches!(
            event,
            Event::More(_) | Event::Fewer(_) | Event::Times(_) | Event::Part(_)
        ) {
            (a, b) = (b, a);
        }
    }
    let asked = match plot.ask {
        Ask::Now => NOW[rng.below(NOW.len())],
        Ask::Together => TOGETHER[rng.below(TOGETHER.len())],
    };
    Narrative {
        story: sentences.join(" "),
        question: fill(asked, a, b, 0, 0),
    }
}

/// Every phrasing there is.
pub(super) fn phrases() -> impl Iterator<Item = &'static str> {
    const EVENTS: [Event; 12] = [
        Event::Have(0),
        Event::Packs(0, 0),
        Event::Gain(0),
        Event::Lose(0),
        Event::GainPacks(0, 0),
        Event::LoseEach(0, 0),
        Event::Grow(0),
        Event::Share(0),
        Event::More(0),
        Event::Fewer(0),
        Event::Times(0),
        Event::Part(0),
    ];
    EVENTS
        .into_iter()
        .flat_map(phrasings)
        .chain(BESIDE)
        .chain(NOW)
        .chain(TOGETHER)
}
