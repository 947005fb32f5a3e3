#!/usr/bin/env bash
# Runs all tests and ends with how many there were. `make test` runs it inside a testbed.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
# What tests have to tell that passed.
export BURSAR_TEST_SUMMARY
BURSAR_TEST_SUMMARY=$(mktemp)
trap 'rm -f "$log" "$BURSAR_TEST_SUMMARY"' EXIT
count() {
	cat "$BURSAR_TEST_SUMMARY"
	awk '/^test result:/ { passed += $4; failed += $6 }
		END { printf "%d passed, %d failed\n", passed, failed }' "$log"
}

cargo test --workspace --no-fail-fast | tee "$log" || { count; exit 1; }
count
