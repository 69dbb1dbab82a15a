# What there is to do here; every step of the checks is a recipe that runs on any machine with rustup.
.DEFAULT_GOAL := help
.PHONY: help run build install test e2e lint fmt docs bench soak clean

CARGO ?= cargo

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## control plane, two data planes and an echo backend in one process; prints what to try
	$(CARGO) run -p edgequota-cli -- demo

build: ## everything, unoptimised
	$(CARGO) build --workspace --all-targets

install: ## what the tests need: redis-server, nginx, haproxy, curl, wrk, grpcio
	@./tests/install.sh

test: install ## every test, against real processes
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace --no-fail-fast

e2e: install ## only the tests of the whole; one file with `make e2e T=limits`
	$(CARGO) build --workspace
	$(CARGO) test -p edgequota-tests $(if $(T),--test $(T))

lint: ## format and lints, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: ## formats everything
	$(CARGO) fmt --all

docs: ## writes docs/configuration.md anew from the types
	$(CARGO) run -p edgequota-config --example reference > target/configuration.md
	mv target/configuration.md docs/configuration.md

bench: install ## side by side with nginx, memory, fleet; writes the tables in docs/performance.md
	$(CARGO) build --release -p edgequota-cli
	$(CARGO) run --release -p edgequota-tests --bin edgequota-bench -- $(BENCH)

SOAK ?= 600
SOAK_PROFILE ?= release
soak: install ## ten minutes of full load, edits, outages and churn; `make soak SOAK=120 SOAK_PROFILE=dev`
	$(CARGO) build --profile $(SOAK_PROFILE) -p edgequota-cli
	EDGEQUOTA_SOAK_SECONDS=$(SOAK) $(CARGO) test --profile $(SOAK_PROFILE) -p edgequota-tests --test soak -- --nocapture

clean: ## removes what was built
	$(CARGO) clean
