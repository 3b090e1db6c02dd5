//! The program: arguments, recipes, runs.
fn main() {}
