# The commands of this project; `make` alone lists them. Nothing here needs root or calls a system package manager.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: setup setup-dev install run check fmt test full conform bench hazards chaos lock clean help

VENV := .venv
BIN  := $(VENV)/bin

# -I: neither PYTHONPATH nor a folder named like a module of pip's gets in the way. The variables undo settings of
# the machine that would install elsewhere or ask questions; its index and certificates stay as they are.
PIP     := PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -Im pip -qq
INSTALL := $(PIP) install --require-hashes --requirement
RING     = sh .ci/ring $(1) $(BIN)/python -m pytest --junit-xml=dist/reports/$(1).xml $(ARGS)

# Node projects are found by their lock files: the producer of `make run`, and those of the interop tests.
RUN_NODE  := $(dir $(wildcard workers/dev/package-lock.json workers/dev/*/package-lock.json))
TEST_NODE := $(dir $(wildcard tests/interop/*/package-lock.json))

setup: install ## Create .venv and install what `make run` needs (about a minute, once)
	@echo "Ready: make run"

setup-dev: $(VENV)/dev.stamp ## Install pytest and the development tools too (`make test` and `make check` do it)

install: $(VENV)/run.stamp
	@sh .ci/npm-ci $(RUN_NODE)

run: install ## Run the main job: Valkey, mail catcher, fleet and Node producer (Ctrl-C drains; ARGS="--for 15s": ends)
	@# In a process group of its own, Ctrl-C reaches the fleet and not make, so a clean drain exits 0.
	@if [ -t 0 ]; then set -m; $(BIN)/fleet dev $(ARGS); else exec $(BIN)/fleet dev $(ARGS); fi

CHECKS := format lint types layers config yaml image manifests
.PHONY: $(CHECKS)
check: $(CHECKS) ## Check format, lint, types, layers, configuration, image and manifests (-k: all, despite failures)
$(CHECKS): $(VENV)/dev.stamp

format:
	$(BIN)/ruff format --check --quiet .
lint:
	$(BIN)/ruff check .
types:
	$(BIN)/mypy
layers:
	$(BIN)/lint-imports
config:
	$(BIN)/fleet config schema --check
	$(BIN)/fleet schema json --check
	$(BIN)/fleet schema typescript --check
	$(BIN)/fleet schema python --check
	$(BIN)/fleet config check
	REDIS_URL=redis://redis SMTP_URL=smtp://mail SITE_EMAIL_ALIAS=hi@example.com $(BIN)/fleet config check --overlay k8s/base/overlay.yaml
yaml:
	$(BIN)/yamllint --strict .
image:
	$(BIN)/hadolint --failure-threshold style Dockerfile
manifests:
	@mkdir -p dist
	$(BIN)/kubectl kustomize k8s/base > dist/k8s-base.yaml
	$(BIN)/kubernetes-validate --strict --quiet dist/k8s-base.yaml

fmt: $(VENV)/dev.stamp ## Format the code and fix what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(VENV)/dev.stamp ## Run the tests ring by ring (ARGS="-k lock -x" goes to pytest)
	@sh .ci/npm-ci $(RUN_NODE) $(TEST_NODE)
	@status=0; \
	$(call RING,unit) -n 2 tests/unit tests/queues || status=1; \
	$(call RING,integration) tests/integration   || status=1; \
	$(call RING,interop) tests/interop           || status=1; \
	$(call RING,acceptance) tests/acceptance     || status=1; \
	$(call RING,chaos) tests/chaos               || status=1; \
	exit $$status

full: $(VENV)/dev.stamp ## Deliver a thousand mails of a Node producer through a server that refuses 5 %, count them
	@sh .ci/npm-ci $(TEST_NODE)
	@$(BIN)/python -m tests.acceptance.thousand_mails $(ARGS)

conform: $(VENV)/dev.stamp ## Try BullMQ's features on each server, write tests/conform/results/conformance.md
	@sh .ci/npm-ci $(TEST_NODE)
	@$(BIN)/python -m tests.conform $(ARGS)

# `make bench worker` runs that one; the names are those of the files.
BENCHES := $(basename $(notdir $(wildcard tests/benchmarks/*.py)))
ifeq ($(firstword $(MAKECMDGOALS)),bench)
NAMED := $(wordlist 2,$(words $(MAKECMDGOALS)),$(MAKECMDGOALS))
UNKNOWN := $(filter-out $(BENCHES),$(NAMED))
$(if $(UNKNOWN),$(error no benchmark is called $(UNKNOWN): $(BENCHES)))
.PHONY: $(NAMED)
$(NAMED): ; @:
endif

bench: $(VENV)/dev.stamp ## Run the benchmarks, or the one that is named after it, and print their numbers
	@sh .ci/npm-ci $(TEST_NODE)
	@set -e; for name in $(or $(NAMED),$(BENCHES)); do \
	  echo "== $$name"; $(BIN)/python -m "tests.benchmarks.$$name"; \
	done

hazards: $(VENV)/dev.stamp ## Show the hazards of the bullmq package's worker beside ours (ARGS="H4 H6": these)
	@$(BIN)/python -m tests.hazards $(ARGS)

chaos: $(VENV)/dev.stamp ## Torment fleets for 6 minutes, account for every job (ARGS="--seed 7 --minutes 30")
	@sh .ci/npm-ci $(TEST_NODE)
	@$(BIN)/python -m tests.chaos $(ARGS)

# The locks agree, since each is constrained by the one that holds everything. Universal: one lock for every
# platform and for Python 3.11 and newer. No index address gets into them.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

lock: $(VENV)/dev.stamp ## Write the lock files anew after pyproject.toml or a package.json changed (UPGRADE=1: newest)
	$(COMPILE) pyproject.toml --extra worker --extra embedded --extra uvloop --group dev --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --extra worker --extra uvloop --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra worker --extra embedded --group build --constraint requirements-dev.lock \
	  --output-file requirements-run.lock
	$(COMPILE) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	@set -e; for project in $(RUN_NODE) $(TEST_NODE); do \
	  echo "npm install --package-lock-only in $$project"; \
	  (cd $$project && npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund); \
	done

clean: ## Remove what the other commands made: .venv, node_modules, caches, .fleet
	rm -rf $(VENV) .fleet dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf $(addsuffix node_modules,$(RUN_NODE) $(TEST_NODE))
	find config tasks registry workers tests -name __pycache__ -prune -exec rm -rf {} +

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Stamps: a second `make setup` finds nothing to do, and a changed lock installs again. The Python stamp holds the
# folder's path, since a virtual environment works only where it was made.
ifneq ($(shell test "$$(cat $(VENV)/python.stamp 2>&1)" = "$(CURDIR)" && $(BIN)/python -c 'print("works")' 2>&1),works)
.PHONY: $(VENV)/python.stamp
endif

$(VENV)/python.stamp:
	@python=$$(sh .ci/find-python $(PYTHON)) && echo "Creating $(VENV) with $$python" && \
	  "$$python" -m venv --clear $(VENV) && echo "$(CURDIR)" > $@

$(VENV)/run.stamp: $(VENV)/python.stamp requirements-run.lock pyproject.toml
	@echo "Installing what the fleet needs (requirements-run.lock)"
	@$(INSTALL) requirements-run.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@echo "Installing the development tools (requirements-dev.lock)"
	@$(INSTALL) requirements-dev.lock
	@touch $@
