# Every target works alone and does its own set-up. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Build caches live outside the clone, so that a fresh clone reuses them.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kappaflow
export CARGO_TARGET_DIR ?= $(CACHE)/target
export KAPPAFLOW_JARS_DIR ?= $(CACHE)/jars
export UV_CACHE_DIR ?= $(CACHE)/uv

VENV := .venv
PY := $(VENV)/bin/python
# dev serves everything but `make wheels` and `make bench`: one cold build, not two.
PROFILE ?= dev

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup:  ## Install what is missing, build the extension, make .venv
	@scripts/setup $(PROFILE)

.PHONY: demo
demo: setup  ## Run the flights job through an Airflow DAG on real Kafkas, kill a worker, prove every row
	@$(PY) examples/flights/demo.py

.PHONY: demo-airflow
demo-airflow: setup  ## The same with Airflow's own components; leaves the UI open until Ctrl-C
	@$(PY) examples/flights/airflow_demo.py

.PHONY: test
test: setup  ## Unit, property and integration tests against a real Kafka
	@scripts/test

.PHONY: crash-points
crash-points: setup  ## Landers and compactions stop, or their disk fails, at every step (`make test` tries some)
	@KAPPAFLOW_CRASH_POINTS=all $(PY) -m pytest -s tests/integration/test_landing_crashes.py

.PHONY: test-gssapi
test-gssapi: setup  ## Build with Kerberos, and sign in by it: a realm and a Kafka of its own
	@scripts/test-gssapi $(ARGS)

.PHONY: lint
lint: setup  ## rustfmt, clippy, ruff, mypy, and the stubs against the binary
	@scripts/lint

.PHONY: bench
bench:  ## Run a benchmark beside its peers: make bench NAME=publish [ARGS="--rows 50000"]
	@test -n "$(NAME)" || { echo "give NAME=, one of: $$(ls benchmarks/*.py | xargs -n1 basename -s .py | grep -v harness | xargs)"; exit 2; }
	@scripts/bench $(NAME) $(ARGS)

.PHONY: fuzz
fuzz:  ## Fuzz the codec's targets: make fuzz [TARGET=decode] [SECONDS=600]
	@scripts/fuzz $(or $(SECONDS),600) $(TARGET)

.PHONY: soak-publish
soak-publish: setup  ## Kill publishers at random moments, and count every row: make soak-publish [KILLS=100]
	@$(PY) -m tests.soak.publish --kills $(or $(KILLS),100)

.PHONY: soak-work
soak-work: setup  ## Workers among faults for half an hour: make soak-work [MINUTES=30] [ARGS=--transactional]
	@$(PY) -m tests.soak.work --minutes $(or $(MINUTES),30) $(ARGS)

.PHONY: soak-land
soak-land: setup  ## Kill landers at random moments, two at once too, and count every row: make soak-land [KILLS=200]
	@$(PY) -m tests.soak.land --kills $(or $(KILLS),200)

.PHONY: wheels
wheels:  ## Build the wheels that people install, into dist/
	@scripts/wheels

.PHONY: docs
docs: setup  ## Check that the docs' commands and links are real
	@$(PY) scripts/check_docs.py

.PHONY: clean
clean:  ## Remove what was made in the clone (caches outside stay)
	@rm -rf $(VENV) .venv-bench .venv-bench-work dist .kappaflow examples/flights/.kappaflow examples/flights/landed examples/flights/data
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	@rm -f python/kappaflow/_native*.so
