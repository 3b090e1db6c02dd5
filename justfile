# Shortcuts; each recipe is one command that can be typed by hand.

# everything that must pass before a change lands
ci:
    .ci/run

# the default experiment, from nothing to a report
run *ARGS:
    cargo run --release -- run {{ARGS}}

# all tests
test *ARGS:
    cargo test --release --workspace {{ARGS}}

# format and lints
lint:
    cargo fmt --all
    cargo clippy --release --workspace --all-targets -- -D warnings
