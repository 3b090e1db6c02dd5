#![no_main]

#[path = "../bodies/arm.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
