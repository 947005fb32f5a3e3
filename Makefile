# What people run. `make` alone tells what there is.

SHELL := bash
cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bursar
deny := $(cache)/tools/bin/cargo-deny
deny_version := 0.20.2

# CI starts from a fresh clone each time; with its target folder in the cache it still does
# not compile every dependency anew.
ifeq ($(CI),true)
export CARGO_TARGET_DIR ?= $(cache)/target
endif
target := $(or $(CARGO_TARGET_DIR),target)
testbed := $(target)/debug/testbed

.DEFAULT_GOAL := help
.PHONY: help demo test model up down release bench lint fmt clippy deny drift generate build packages

help: ## List these commands
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: build ## A tour from kubectl apply to a revoked token; leaves nothing behind
	@$(testbed) demo

test: lint build ## Lint, then all tests on a real kube-apiserver and a real Postgres
	@cargo test --workspace --no-run
	@$(testbed) exec -- testbed/test.sh

model: export BURSAR_MODEL_SCHEDULES ?= 5000
model: build ## Drive the vault through BURSAR_MODEL_SCHEDULES random schedules, 5,000 unless told
	@$(testbed) exec -- cargo test --package bursar-vault --test service model:: -- --nocapture

up: build ## Start what the demo starts and leave it running: see target/testbed/env
	@$(testbed) up

down: ## End what `make up` started
	@if [ -r target/testbed/env ]; then . target/testbed/env; fi; \
	testbed=$${BURSAR_TESTBED:-$(testbed)}; \
	if [ -x "$$testbed" ]; then "$$testbed" down; else echo 'testbed: not up'; fi

# One by one: built together, each would have what only another needs of a library.
release: packages ## Build the programs that are installed, into target/release
	cargo build --release --package bursar-operator
	cargo build --release --package bursar-broker
	cargo build --release --package bursar-cli

bench: release ## Measure the programs of `make release`; writes target/bench/summary.json
	@testbed/packages.sh wrk
	cargo build --release --package bursar-bench --package bursar-testbed
	@$(target)/release/testbed exec -- $(target)/release/bursar-bench

lint: fmt clippy deny drift ## Formatting, clippy, cargo deny, and whether generated files are current
	@echo 'lint: passed'

# Not the whole workspace: it does not compile while vault/.sqlx lacks a new query.
generate: packages ## Write crds/manifests from the Rust types and vault/.sqlx from the SQL
	cargo build --package bursar-crds --package bursar-testbed
	$(target)/debug/crdgen
	@$(testbed) exec -- testbed/sqlx-prepare.sh

fmt:
	cargo fmt --all --check

clippy: packages
	cargo clippy --workspace --all-targets -- --deny warnings

deny: $(deny)
	$(deny) check bans licenses sources
	@if $(deny) fetch db 2>/dev/null; then \
		$(deny) check advisories; \
	else \
		echo 'lint: SECURITY ADVISORIES WERE NOT CHECKED: their database cannot be reached' >&2; \
	fi

drift: build
	$(target)/debug/crdgen --check
	@$(testbed) exec -- testbed/sqlx-prepare.sh --check

build: packages
	cargo build --workspace

packages:
	@testbed/packages.sh

$(deny): | packages
	cargo install cargo-deny --locked --version $(deny_version) --root $(cache)/tools
