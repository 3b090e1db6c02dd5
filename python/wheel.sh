#!/usr/bin/env bash
# Builds the wheel: the program on the path, and the module beside it. Needs maturin.
#
#   pip install maturin && python/wheel.sh            # into target/wheels
#   pip install target/wheels/idiolect-*.whl && python3 python/tests/test_module.py
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd .. && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cargo build --release --manifest-path "$root/Cargo.toml" -p idiolect -p idiolect-python
mkdir -p idiolect.data/scripts
cp "$target/release/idiolect" idiolect.data/scripts/idiolect
strip idiolect.data/scripts/idiolect
maturin build --release --strip "$@"
