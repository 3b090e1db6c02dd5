//! What happens in a word problem, apart from the words: events with numbers, and a question.
//!
//! A plot is what makes two problems the same: the names, things and sentences are drawn anew each
//! time it is narrated. Written out, for example `have-12.gain-5.share-3.now`, it is the problem's id.

use std::fmt;

use crate::miniature::chain::{Chain, Op, Step};
use idiolect_model::Rng;

/// Something that a sentence states. All but the first two change how many things the person that
/// the story is about has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Opens: so many things.
    Have(u32),
    /// Opens: so many packs of so many.
    Packs(u32, u32),
    /// So many more.
    Gain(u32),
    /// So many fewer.
    Lose(u32),
    /// So many packs of so many more: two steps.
    GainPacks(u32, u32),
    /// So many to each of so many: two steps.
    LoseEach(u32, u32),
    /// So many times as many.
    Grow(u32),
    /// One of so many equal parts is left.
    Share(u32),
    /// Another person has so many more; the story goes on with that person.
    More(u32),
    /// Another person has so many fewer; the story goes on with that person.
    Fewer(u32),
    /// Another person has so many times as many; the story goes on with that person.
    Times(u32),
    /// Another person has this many parts of the first's once divided: the first has so many times
    /// as many. The story goes on with the other person.
    Part(u32),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ask {
    /// How many there are in the end.
    Now,
    /// How many the last two persons have together: one more step.
    Together,
}

/// Events and a question, with the chain that answers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plot {
    /// In order; the first opens.
    pub events: Vec<Event>,
    /// At the end.
    pub ask: Ask,
    /// The one way to the answer that the story gives.
    pub chain: Chain,
}

impl Plot {
    /// A plot of `steps` steps with all values in 1..=99.
    pub fn draw(steps: usize, rng: &mut Rng) -> Self {
        loop {
            if let Some(plot) = attempt(steps, rng) {
                return plot;
            }
        }
    }

    /// `gsm8k/mini/have-12.gain-5.share-3.now`.
    pub fn id(&self) -> String {
        format!("gsm8k/mini/{self}")
    }

    /// What the chain ends in.
    pub fn answer(&self) -> u32 {
        self.chain.result().unwrap_or_default()
    }
}

fn attempt(steps: usize, rng: &mut Rng) -> Option<Plot> {
    let mut chain = Vec::with_capacity(steps);
    let opening = if rng.chance(0.5) {
        Event::Have(2 + rng.below(38) as u32)
    } else {
        let (packs, each) = (2 + rng.below(6) as u32, 2 + rng.below(11) as u32);
        chain.push(Step::of(packs, Op::Mul, each)?);
        Event::Packs(packs, each)
    };
    let mut value = match opening {
        Event::Have(n) => n,
        _ => chain.last()?.result,
    };
    let mut events = vec![opening];
    let mut before = value;
    while chain.len() < steps {
        let compared = matches!(
            events.last(),
            Some(Event::More(_) | Event::Fewer(_) | Event::Times(_) | Event::Part(_))
        );
        if compared && chain.len() + 1 == steps && rng.chance(0.5) {
            chain.push(Step::of(before, Op::Add, value)?);
            return finished(events, Ask::Together, chain);
        }
        let event = event(rng);
        before = value;
        for step in steps_of(event, value)? {
            value = step.result;
            chain.push(step);
        }
        events.push(event);
    }
    finished(events, Ask::Now, chain).filter(|plot| plot.chain.steps.len() == steps)
}

fn finished(events: Vec<Event>, ask: Ask, steps: Vec<Step>) -> Option<Plot> {
    let positive = steps.iter().all(|step| step.result > 0);
    positive.then_some(Plot {
        events,
        ask,
        chain: Chain { steps },
    })
}

fn event(rng: &mut Rng) -> Event {
    let kind = rng.below(10);
    let mut few = || 2 + rng.below(5) as u32;
    match kind {
        4 => Event::GainPacks(few(), few()),
        5 => Event::LoseEach(few(), few()),
        6 => Event::Grow(few()),
        7 => Event::Share(few()),
        8 => Event::Times(few()),
        9 => Event::Part(few()),
        _ => {
            let some = 2 + rng.below(18) as u32;
            match kind {
                0 => Event::Gain(some),
                1 => Event::Lose(some),
                2 => Event::More(some),
                _ => Event::Fewer(some),
            }
        }
    }
}

/// The steps of an event that meets `value`.
fn steps_of(event: Event, value: u32) -> Option<Vec<Step>> {
    let one = |op, n| Some(vec![Step::of(value, op, n)?]);
    match event {
        Event::Have(_) | Event::Packs(..) => None,
        Event::Gain(n) | Event::More(n) => one(Op::Add, n),
        Event::Lose(n) | Event::Fewer(n) => one(Op::Sub, n),
        Event::Grow(n) | Event::Times(n) => one(Op::Mul, n),
        Event::Share(n) | Event::Part(n) => one(Op::Div, n),
        Event::GainPacks(packs, each) | Event::LoseEach(packs, each) => {
            let all = Step::of(packs, Op::Mul, each)?;
            let op = if matches!(event, Event::GainPacks(..)) {
                Op::Add
            } else {
                Op::Sub
            };
            Some(vec![all, Step::of(value, op, all.result)?])
        }
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            match event {
                Event::Have(n) => write!(f, "have-{n}."),
                Event::Packs(k, n) => write!(f, "packs-{k}-{n}."),
                Event::Gain(n) => write!(f, "gain-{n}."),
                Event::Lose(n) => write!(f, "lose-{n}."),
                Event::GainPacks(k, n) => write!(f, "gain-{k}-{n}."),
                Event::LoseEach(k, n) => write!(f, "lose-{k}-{n}."),
                Event::Grow(n) => write!(f, "grow-{n}."),
                Event::Share(n) => write!(f, "share-{n}."),
                Event::More(n) => write!(f, "more-{n}."),
                Event::Fewer(n) => write!(f, "fewer-{n}."),
                Event::Times(n) => write!(f, "times-{n}."),
                Event::Part(n) => write!(f, "part-{n}."),
            }?;
        }
        f.write_str(match self.ask {
            Ask::Now => "now",
            Ask::Together => "together",
        })
    }
}
