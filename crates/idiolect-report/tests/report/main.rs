//! The report from outside: what is on the page, and how a real browser shows it.

#[cfg(test)]
mod asked;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod chromium;
#[cfg(test)]
mod live;
#[cfg(test)]
mod page;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod snapshot;
