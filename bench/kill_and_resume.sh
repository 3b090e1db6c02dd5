#!/usr/bin/env bash
# Runs one recipe uninterrupted, then once more killed with `kill -9` at random moments and
# resumed each time, and compares every file of the two run directories byte for byte (wall
# times, dates and host facts aside: events.jsonl, manifest.json, and `wall_s` of log.jsonl).
#
#   bench/kill_and_resume.sh [--recipe FILE] [--kills N] [--dir DIR] [--seed N]
#
# The moments are drawn (by --seed) within the time that the uninterrupted run took, one in each
# of N equal parts, so that kills spread over all stages; which stage each one hit is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
recipe=recipes/miniature.toml kills=20 dir="" seed=0
while [ $# -gt 0 ]; do
  case "$1" in
    --recipe) recipe=$2 ;; --kills) kills=$2 ;; --dir) dir=$2 ;; --seed) seed=$2 ;;
    *) echo "unknown argument $1" >&2; exit 2 ;;
  esac
  shift 2
done
[ -n "$dir" ] || { dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT; }
mkdir -p "$dir"
program=$(pwd)/target/release/idiolect
[ -x "$program" ] || { echo "build first: cargo build --release" >&2; exit 1; }
RANDOM=$seed

started=$(date +%s%N)
"$program" run "$recipe" --out "$dir/whole" -q > "$dir/whole.out"
whole_ms=$(( ($(date +%s%N) - started) / 1000000 ))
echo "uninterrupted: $((whole_ms / 1000)).$(printf %03d $((whole_ms % 1000))) s"

# Each try runs for one N-th of the whole on average, so that N kills cover it from end to end.
part=$((whole_ms / kills)); [ "$part" -gt 0 ] || part=1
killed=0
for try in $(seq "$kills"); do
  "$program" run "$recipe" --out "$dir/killed" -q > /dev/null 2> "$dir/killed.err" &
  pid=$!
  wait_ms=$((part / 2 + RANDOM * 32768 % part + RANDOM % (part + 1)))
  sleep "$(printf '%d.%03d' $((wait_ms / 1000)) $((wait_ms % 1000)))"
  if kill -9 "$pid" 2>/dev/null; then
    wait "$pid" 2>/dev/null || true
    killed=$((killed + 1))
    stage=$(grep -o '"stage":"[^"]*"' "$dir/killed/events.jsonl" 2>/dev/null | tail -n 1 || true)
    echo "kill $try after $wait_ms ms, in ${stage:-the very beginning}"
  else
    if ! wait "$pid"; then
      echo "a resumed run failed:"; cat "$dir/killed.err"; exit 1
    fi
    echo "try $try finished before its kill"
  fi
done
"$program" run "$recipe" --out "$dir/killed" -q > "$dir/killed.out"

list() { (cd "$1" && find . -type f ! -name events.jsonl ! -name manifest.json | LC_ALL=C sort); }
hash_all() {
  list "$1" | while read -r file; do
    case "$file" in
      */log.jsonl) printf '%s %s\n' "$(sed 's/"wall_s":[0-9.e+-]*//' "$1/$file" | sha256sum | cut -c1-64)" "$file" ;;
      *) printf '%s %s\n' "$(sha256sum < "$1/$file" | cut -c1-64)" "$file" ;;
    esac
  done
}
hash_all "$dir/whole" > "$dir/whole.sha"; hash_all "$dir/killed" > "$dir/killed.sha"
if ! diff "$dir/whole.sha" "$dir/killed.sha" > "$dir/differences"; then
  echo "DIFFERENT after $killed kills:"; cat "$dir/differences"; exit 1
fi
cmp "$dir/whole.out" "$dir/killed.out"
echo "same bytes in all $(wc -l < "$dir/whole.sha") files after $killed kills"
