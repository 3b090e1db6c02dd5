//! The report from outside: what is on the page, and how a real browser shows it.

#[cfg(test)]
mod browser;
#[cfg(test)]
mod page;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod snapshot;
