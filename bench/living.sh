#!/usr/bin/env bash
# Runs for `cargo run --release -p idiolect-lab -- DIR/*`: three student families on two tasks, each a run of recipes/benchmark.toml
# in DIR/TASK-FAMILY.
# usage: bench/living.sh DIR [extra arguments of `idiolect run`]
# Run again it goes on where it stopped. IDIOLECT names the program (default: idiolect).
set -euo pipefail
dir=$1
shift
recipe=$(dirname "$0")/../recipes/benchmark.toml
cell() { # TASK FAMILY ARGUMENTS...
    local world=$1 family=$2
    shift 2
    "${IDIOLECT:-idiolect}" run "$recipe" --set data.world="$world" \
        --set models.student.scratch.family="$family" --out "$dir/$world-$family" "$@"
}
for world in countdown stories; do
    for family in llama qwen2 gemma2; do
        # The teacher and what it writes depend on the task alone: a run takes them over where its
        # inputs and settings are the same, which their metas say, and makes them again otherwise.
        first=$dir/$world-llama here=$dir/$world-$family
        if [ "$family" != llama ] && [ ! -e "$here/models/r0/teacher" ]; then
            cell $world $family --until data "$@" >/dev/null
            mkdir -p "$here/models/r0"
            cp -r "$first/models/r0/teacher"* "$here/models/r0/"
            cp "$first"/data/r0/parts/{sampled,paraphrased}.jsonl* "$here/data/r0/parts/"
        fi
        cell $world $family "$@"
    done
done
