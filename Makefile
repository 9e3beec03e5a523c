# `make` or `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run test chaos fuzz check fmt lint doc docs openapi release-document

help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 25

run: ## Starts the server for trying it: embedded database, tokens of its own, http://127.0.0.1:8080
	@scripts/setup build
	@echo "Building nworkflow-state; the first build takes some minutes."
	@cargo run --locked -- dev

test: ## Runs all tests, with a PostgreSQL and a Redis of their own
	@scripts/setup test
	@scripts/stage "build of the tests" cargo test --locked --no-run
	@scripts/stage "tests with a PostgreSQL and a Redis of their own" scripts/with-postgres scripts/with-redis scripts/test
	@scripts/stage "generated clients" scripts/test-clients

MINUTES ?= 10
chaos: ## Breaks three servers, their cache tiers and their database for MINUTES=10, and judges every answer
	@scripts/setup test
	@NWORKFLOW_TEST_CHAOS_SECONDS=$$((60 * $(MINUTES))) scripts/with-postgres scripts/with-redis \
		cargo test --locked --test suite -- --nocapture --test-threads=1 cluster::chaos::chaos_from

fuzz: ## Looks for faults with generated requests and inputs for MINUTES=10 (docs/fuzzing.md)
	@scripts/setup test
	@scripts/stage "build" cargo build --locked
	@scripts/with-postgres scripts/with-redis scripts/fuzz $(MINUTES)

check: ## Everything that continuous integration checks: format, lints, documentation, tests, generated files
	@scripts/setup test
	@scripts/stage "format" cargo fmt --check
	@$(MAKE) --no-print-directory lint doc test
	@scripts/stage "generated files" scripts/check-generated

fmt: ## Formats the code
	@cargo fmt

lint: ## Runs clippy; a warning is an error
	@scripts/stage "lints" cargo clippy --locked --all-targets -- -D warnings

doc: ## Builds the documentation of the code; a warning is an error
	@RUSTDOCFLAGS="-D warnings" scripts/stage "documentation" cargo doc --locked --no-deps --document-private-items

openapi: ## Writes the API document into openapi/
	@mkdir -p openapi
	@cargo run --locked --quiet -- openapi > openapi/openapi.json
	@cargo run --locked --quiet -- openapi --version 3.0 > openapi/openapi-3.0.json

release-document: openapi ## Makes this version's API document the one that later versions must stay compatible with
	@scripts/release-document

docs: ## Writes the pages of docs/ that are made from the code
	@cargo run --locked --quiet -- docs configuration > docs/configuration.md
	@cargo run --locked --quiet -- docs errors > docs/errors.md
