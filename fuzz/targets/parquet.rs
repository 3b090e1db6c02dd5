#![no_main]

#[path = "../bodies/parquet.rs"]
mod body;

libfuzzer_sys::fuzz_target!(
    // The parquet reader's panics are caught and told as errors: only one that comes through counts.
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| body::run(data)
);
