//! The report from outside: what stands on the page, and how a real browser shows it.

mod browser;
mod page;
mod sample;
