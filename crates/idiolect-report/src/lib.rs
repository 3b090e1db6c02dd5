//! Tables, plots and one self-contained HTML page out of a finished run's numbers.

pub mod view;
