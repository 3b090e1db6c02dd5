#!/usr/bin/env bash
# The report's page under axe-core's rules, light and dark, on a phone and on a desk.
#
#   bench/report_a11y.sh
#
# Needs Chromium and npm; axe-core lies in a temporary directory only.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v npm >/dev/null || { echo "SKIPPED: npm is not installed" >&2; exit 0; }
axe=$(mktemp -d)
trap 'rm -rf "$axe"' EXIT
npm install --silent --no-save --no-audit --no-fund --prefix "$axe" axe-core
IDIOLECT_REQUIRE_BROWSER=1 IDIOLECT_AXE="$axe/node_modules/axe-core/axe.min.js" \
  cargo test --release -p idiolect-report --test report axe_finds -- --nocapture
