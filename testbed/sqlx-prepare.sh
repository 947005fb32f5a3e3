#!/usr/bin/env bash
# Asks a real server about every query that the vault checks at compile time, and writes
# its answers to vault/.sqlx; with --check it only compares. `make generate` and
# `make lint` run it inside a testbed.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${BURSAR_TESTBED:?run this inside a testbed: make generate}"

answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
DATABASE_URL=$("$BURSAR_TESTBED" database sqlx)
export DATABASE_URL

# Not through the vault's own migrator: the vault does not compile before this is done.
for migration in migrations/*.sql; do
	psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --single-transaction \
		--dbname "$DATABASE_URL" --file "$migration" --output /dev/null
done

# The macros ask only when their crate is compiled.
touch vault/src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$answers cargo check --quiet --package bursar-vault --all-targets

if [ "${1:-}" = --check ]; then
	diff --recursive --brief vault/.sqlx "$answers" || {
		echo 'lint: vault/.sqlx is not what the SQL says now: run make generate and commit it' >&2
		exit 1
	}
else
	rm -rf vault/.sqlx
	cp -r "$answers" vault/.sqlx
	chmod 755 vault/.sqlx
fi
