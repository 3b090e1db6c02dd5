//! Countdown problems drawn at a chosen difficulty, each proven reachable by the solver.

use std::collections::BTreeSet;

use super::solve::{Expression, solve};
use idiolect_model::Rng;

/// Draws after which a difficulty is given up.
const MAX_DRAWS: usize = 200_000;

/// What makes a problem hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difficulty {
    /// How many numbers, 2 to 6; more are harder.
    pub numbers: usize,
    /// Each number lies in 1 to this.
    pub max_number: i64,
    /// The target lies in 1 to this.
    pub max_target: i64,
    /// At least so many solutions that differ in more than order and grouping; fewer are harder.
    pub min_solutions: usize,
    /// At most so many.
    pub max_solutions: Option<usize>,
}

/// A drawn problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// To be used, each once.
    pub numbers: Vec<i64>,
    /// To be reached.
    pub target: i64,
    /// One way.
    pub solution: Expression,
}

/// Draws problems one after another, no two with the same numbers and target: uniform over numbers
/// and targets, and kept where the solver finds as many solutions as the difficulty asks for.
pub struct Generator {
    seed: u64,
    difficulty: Difficulty,
    seen: BTreeSet<(Vec<i64>, i64)>,
}

impl Generator {
    /// A generator; equal seeds and difficulties draw equal problems.
    ///
    /// # Errors
    /// In words, where the difficulty makes no sense.
    pub fn new(seed: u64, difficulty: Difficulty) -> Result<Self, String> {
        let Difficulty {
            numbers,
            max_number,
            max_target,
            min_solutions,
            max_solutions,
        } = difficulty;
        if !(2..=6).contains(&numbers) {
            return Err(format!("{numbers} numbers; the solver proves 2 to 6"));
        }
        let top = 1_000_000_000;
        if !(1..=top).contains(&max_number) || !(1..=top).contains(&max_target) {
            return Err("numbers and target must be allowed to reach 1 to 10^9".to_owned());
        }
        if max_solutions.is_some_and(|most| most < min_solutions.max(1)) {
            return Err("fewer solutions at most than at least".to_owned());
        }
        Ok(Self {
            seed,
            difficulty,
            seen: BTreeSet::new(),
        })
    }

    /// The next problem.
    ///
    /// # Errors
    /// In words, where the difficulty is so rare (or its problems so few) that none was found.
    pub fn draw(&mut self) -> Result<Drawn, String> {
        let index = self.seen.len().to_string();
        let mut rng = Rng::keyed(self.seed, &["countdown problem", &index]);
        let hard = self.difficulty;
        let within = |rng: &mut Rng, top: i64| 1 + rng.below(top as usize) as i64;
        for _ in 0..MAX_DRAWS {
            let numbers: Vec<i64> = (0..hard.numbers)
                .map(|_| within(&mut rng, hard.max_number))
                .collect();
            let target = within(&mut rng, hard.max_target);
            let mut key = numbers.clone();
            key.sort_unstable();
            if self.seen.contains(&(key.clone(), target)) {
                continue;
            }
            let least = hard.min_solutions.max(1);
            let limit = hard.max_solutions.map_or(least, |most| most + 1);
            let Some(solutions) = solve(&numbers, target, limit) else {
                continue;
            };
            let too_many = hard
                .max_solutions
                .is_some_and(|most| solutions.len() > most);
            if solutions.len() < least || too_many {
                continue;
            }
            let Some(solution) = solutions.into_iter().next() else {
                continue;
            };
            self.seen.insert((key, target));
            return Ok(Drawn {
                numbers,
                target,
                solution,
            });
        }
        Err(format!(
            "no further problem of this difficulty in {MAX_DRAWS} draws, after {}",
            self.seen.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gold;
    use super::super::judge;
    use super::*;
    use crate::record::Verdict;

    const EASY: Difficulty = Difficulty {
        numbers: 3,
        max_number: 20,
        max_target: 50,
        min_solutions: 1,
        max_solutions: None,
    };

    fn drawn(seed: u64, difficulty: Difficulty, n: usize) -> Vec<Drawn> {
        let mut generator = Generator::new(seed, difficulty).unwrap();
        (0..n).map(|_| generator.draw().unwrap()).collect()
    }

    #[test]
    fn problems_are_distinct_solved_and_decided_by_the_seed() {
        let problems = drawn(1, EASY, 50);
        let mut seen = BTreeSet::new();
        for problem in &problems {
            let gold = Gold {
                numbers: problem.numbers.clone(),
                target: problem.target,
            };
            let judged = judge(&problem.solution.to_string(), &gold);
            assert_eq!(judged.verdict, Verdict::Correct, "{}", judged.reason);
            assert!(problem.numbers.iter().all(|n| (1..=20).contains(n)));
            assert!((1..=50).contains(&problem.target));
            let mut key = problem.numbers.clone();
            key.sort_unstable();
            assert!(seen.insert((key, problem.target)));
        }
        assert_eq!(problems, drawn(1, EASY, 50));
        assert_eq!(problems[..10], drawn(1, EASY, 10));
        assert_ne!(problems, drawn(2, EASY, 50));
    }

    #[test]
    fn the_count_of_solutions_is_kept() {
        let single = Difficulty {
            max_solutions: Some(1),
            ..EASY
        };
        for problem in drawn(0, single, 10) {
            assert_eq!(solve(&problem.numbers, problem.target, 9).unwrap().len(), 1);
        }
        let many = Difficulty {
            numbers: 4,
            min_solutions: 5,
            ..EASY
        };
        for problem in drawn(0, many, 5) {
            assert_eq!(solve(&problem.numbers, problem.target, 5).unwrap().len(), 5);
        }
    }

    #[test]
    fn a_difficulty_that_cannot_be_met_is_refused() {
        let wrong = |difficulty| Generator::new(0, difficulty).is_err();
        assert!(wrong(Difficulty { numbers: 7, ..EASY }));
        assert!(wrong(Difficulty {
            max_target: 0,
            ..EASY
        }));
        assert!(wrong(Difficulty {
            min_solutions: 3,
            max_solutions: Some(2),
            ..EASY
        }));
        let mut few = Generator::new(
            0,
            Difficulty {
                numbers: 2,
                max_number: 1,
                max_target: 2,
                ..EASY
            },
        )
        .unwrap();
        // 1 and 1 reach 1 and 2 and nothing else.
        assert!(few.draw().is_ok() && few.draw().is_ok());
        assert!(few.draw().unwrap_err().contains("no further problem"));
    }
}
