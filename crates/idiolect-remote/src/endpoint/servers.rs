//! The servers of one endpoint: which is asked next, which are to be left alone for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::address::Base;

/// A server that could not be reached is left alone so long, where there is another.
const DOWN_FOR: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Servers {
    bases: Vec<Base>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    each: Vec<One>,
    last_answer: Option<Instant>,
    /// Since when nothing but rate limits came.
    limited_since: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
struct One {
    in_flight: usize,
    cool_until: Option<Instant>,
    down_until: Option<Instant>,
    limited_in_a_row: u32,
}

/// A server that is being asked; dropped when the exchange ends.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    servers: &'a Servers,
    pub(super) index: usize,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.servers.lock().each[self.index].in_flight -= 1;
    }
}

impl Servers {
    pub(super) fn new(bases: Vec<Base>) -> Self {
        let each = vec![One::default(); bases.len()];
        Self {
            bases,
            state: Mutex::new(State {
                each,
                last_answer: None,
                limited_since: None,
            }),
        }
    }

    pub(super) fn bases(&self) -> &[Base] {
        &self.bases
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server to ask now, the least busy of those that may be asked; else when to look again.
    pub(super) fn pick(&self) -> Result<Asked<'_>, Instant> {
        let now = Instant::now();
        let mut state = self.lock();
        let later = |until: Option<Instant>| until.is_some_and(|at| at > now);
        let awake = |one: &One| !later(one.cool_until);
        let up = |one: &One| one.down_until.is_none();
        let least = |allowed: &dyn Fn(&One) -> bool| {
            (0..state.each.len())
                .filter(|&i| allowed(&state.each[i]))
                .min_by_key(|&i| state.each[i].in_flight)
        };
        // One request finds out whether a server that was down has come back.
        let returning = least(&|one| awake(one) && !up(one) && !later(one.down_until));
        let chosen = returning
            .or_else(|| least(&|one| awake(one) && up(one)))
            .or_else(|| {
                // All others are down too: there is nothing better to ask.
                let waits_for_another = state.each.iter().any(|one| up(one) && !awake(one));
                (!waits_for_another).then(|| least(&awake)).flatten()
            });
        let Some(index) = chosen else {
            let ends = state.each.iter().filter_map(|one| one.cool_until);
            let next = ends.filter(|&at| at > now).min();
            return Err(next.unwrap_or(now + Duration::from_millis(10)));
        };
        let one = &mut state.each[index];
        one.in_flight += 1;
        if one.down_until.is_some() {
            one.down_until = Some(now + DOWN_FOR);
        }
        drop(state);
        Ok(Asked {
            servers: self,
            index,
        })
    }

    /// Notes that a server answered a request as it should.
    pub(super) fn answered(&self, index: usize) {
        let mut state = self.lock();
        state.last_answer = Some(Instant::now());
        state.limited_since = None;
        let one = &mut state.each[index];
        one.down_until = None;
        one.limited_in_a_row = 0;
    }

    /// Notes that a server could not be reached; whether another is there to be asked instead.
    pub(super) fn down(&self, index: usize) -> bool {
        let mut state = self.lock();
        state.each[index].down_until = Some(Instant::now() + DOWN_FOR);
        state.each.iter().any(|one| one.down_until.is_none())
    }

    /// Leaves a server alone for a while.
    pub(super) fn cool_down(&self, index: usize, pause: Duration) {
        let until = Instant::now().checked_add(pause);
        let one = &mut self.lock().each[index];
        one.cool_until = one.cool_until.max(until);
    }

    /// Notes a rate limit; how many came in a row, those that were on their way together counted
    /// once, and since when there was nothing else.
    pub(super) fn limited(&self, index: usize) -> (u32, Instant) {
        let now = Instant::now();
        let mut state = self.lock();
        let since = *state.limited_since.get_or_insert(now);
        let one = &mut state.each[index];
        if one.cool_until.is_none_or(|until| until <= now) {
            one.limited_in_a_row += 1;
        }
        (one.limited_in_a_row.max(1), since)
    }

    /// Whether some request was answered after this time.
    pub(super) fn answered_since(&self, time: Instant) -> bool {
        self.lock().last_answer.is_some_and(|at| at >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Servers {
        Servers::new(
            ["http://a", "http://b"]
                .map(|url| Base::parse(url).unwrap())
                .into(),
        )
    }

    #[test]
    fn the_least_busy_server_is_asked() {
        let servers = two();
        let first = servers.pick().unwrap();
        let second = servers.pick().unwrap();
        assert_eq!((first.index, second.index), (0, 1));
        drop(second);
        assert_eq!(servers.pick().unwrap().index, 1);
    }

    #[test]
    fn a_server_that_is_down_is_skipped_while_another_is_up() {
        let servers = two();
        assert!(servers.down(0));
        assert!((0..5).all(|_| servers.pick().unwrap().index == 1));
        assert!(!servers.down(1));
        assert!(servers.pick().is_ok());
        servers.answered(0);
        assert_eq!(servers.pick().unwrap().index, 0);
    }

    #[test]
    fn limited_servers_are_waited_for_together() {
        let servers = two();
        let pause = Duration::from_secs(60);
        assert_eq!(servers.limited(0).0, 1);
        servers.cool_down(0, pause);
        assert_eq!(servers.limited(0).0, 1);
        assert_eq!(servers.pick().unwrap().index, 1);
        servers.down(1);
        let until = servers.pick().unwrap_err();
        assert!(until > Instant::now() + pause / 2);
    }
}
