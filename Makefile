# Galileo on one machine. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
STACK := $(VENV)/bin/python -m galileo_site.stack
# What Django's own checks need in order to load the settings; the checks reach neither a database nor a broker.
CHECK_ENV := env galileo_expdb_sqlite_path=:memory: galileo_secret_key=only-for-checks-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ galileo_https=true
COMPILE := $(VENV)/bin/pip-compile --quiet --strip-extras --annotation-style=line --no-header --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help venv venv-dev demo up down test test-end-to-end test-parts test-long test-fast test-fast-first test-fast-second test-interpreted test-databases faults soak bench lint lock clean

help:
	@echo "make demo       run the example experiment end to end: install, start, load, report, stop"
	@echo "make up         start everything in the background; prints the web address and the password"
	@echo "make down       stop what make up has started"
	@echo "make venv       install into $(VENV)"
	@echo "make test       run all tests but those below"
	@echo "make test-fast  run the tests that neither wait nor compute for long"
	@echo "make test-long  run the longest tests: random requests to the API, a worker's installation, steps of the broker's clock, mean arrivals"
	@echo "make test-interpreted  run tests of the engine on its Python files, as where there is no C compiler"
	@echo "make test-databases  run the tests of what is stored on PostgreSQL and MariaDB"
	@echo "make faults     kill, cut off and restart everything in turn, on SQLite and PostgreSQL; prints a table"
	@echo "make soak       a long load under random faults; prints whether anything grows (SOAK_MINUTES=30)"
	@echo "make bench      measure against wrk, hey and Locust; prints a table (BENCH_ONLY=closed,open BENCH_ROUNDS=3 BENCH_QUICK=1)"
	@echo "make lint       check style, prose, types, import rules, migrations, settings and the API's schema"
	@echo "make lock       compile requirements*.txt from requirements*.in"
	@echo "make clean      remove $(VENV), $(PEERS), var and caches"
	@echo "PYTHON=...      the Python (3.11 or newer) that $(VENV) is made with; now $(PYTHON)"

venv: $(VENV)/.installed $(VENV)/.compiled

venv-dev: $(VENV)/.installed-dev $(VENV)/.compiled

$(VENV)/.installed: requirements.txt requirements-compile.txt
	@$(PYTHON) bin/preflight
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -r requirements.txt -r requirements-compile.txt
	@touch $@

# It looks itself whether there is anything to compile. Where it cannot it says so, each time, and all goes on as it is.
$(VENV)/.compiled: $(VENV)/.installed $(wildcard loadgen/*/*.p* loadgen/engine/*/*.p*)
	@$(VENV)/bin/python -m loadgen.compiled.compile && touch $@ || true

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP) install -r requirements-dev.txt
	@touch $@

demo: venv
	@$(STACK) demo

up: venv
	@$(STACK) up

down: venv
	@$(STACK) down

# File by file, the longest first (tests/conftest.py).
IN_PROCESSES := --dist loadfile --no-loadscope-reorder -n
SIDE_BY_SIDE := @$(MAKE) --no-print-directory --output-sync=line --jobs=2
# Each process would compile, and pytest rewrite, all modules again where the environment has set this.
test test-long test-fast test-interpreted test-databases: export PYTHONDONTWRITEBYTECODE =

# End-to-end tests share one Galileo per process, and mostly wait: more processes than cores help.
test: venv-dev
	$(SIDE_BY_SIDE) test-end-to-end test-parts
	$(VENV)/bin/python -m pytest -m alone tests/e2e

test-end-to-end:
	$(VENV)/bin/python -m pytest $(IN_PROCESSES) 3 -m "not alone and not long" tests/e2e

test-parts:
	$(VENV)/bin/python -m pytest $(IN_PROCESSES) 4 -m "not long" tests --ignore=tests/e2e

test-long: venv-dev
	$(VENV)/bin/python -m pytest $(IN_PROCESSES) 2 -m long

# Two halves side by side, which each import and collect only their own, and none of the folders without a fast test.
FAST := -q -m "not slow and not costly and not long" --hypothesis-profile=fast
FIRST_HALF := tests/experiments --ignore=tests/experiments/plans
ELSEWHERE := tests/experiments tests/browser tests/e2e tests/faults
SECOND_HALF := $(filter-out $(ELSEWHERE),$(patsubst %/,%,$(wildcard tests/[a-z]*/)) $(wildcard tests/test_*.py)) tests/experiments/plans

test-fast: venv-dev
	$(SIDE_BY_SIDE) test-fast-first test-fast-second

test-fast-first test-fast-second: test-fast-%:
	$(VENV)/bin/python -m pytest $(FAST) $(if $(filter first,$*),$(FIRST_HALF),$(SECOND_HALF))

# The engine as it runs where there is no compiler, with sockets, too.
INTERPRETED := galileo_compiled=false $(VENV)/bin/python -m pytest $(IN_PROCESSES) 2
WITH_SOCKETS := $(addprefix tests/loadgen/engine/,executors/test_closed.py executors/test_interactive.py http/test_connections.py http/test_fuzz.py http/test_outcomes.py test_run.py)

test-interpreted: venv-dev
	$(INTERPRETED) -m "not slow" tests/loadgen/engine tests/loadgen/arrivals/test_pacer.py
	$(INTERPRETED) -m slow $(WITH_SOCKETS)

# Everything that reads or writes a database, on real servers that the command starts and stops.
DATABASE_TESTS := tests/databases tests/routing tests/experiments

test-databases: venv-dev
	$(VENV)/bin/python -m tests.support.databases postgres -- $(VENV)/bin/python -m pytest $(IN_PROCESSES) 2 -m "not slow or database" $(DATABASE_TESTS)
	$(VENV)/bin/python -m tests.support.databases mysql -- $(VENV)/bin/python -m pytest $(IN_PROCESSES) 2 -m "not slow or database" $(DATABASE_TESTS)

# Each fault on both databases, which takes about 45 minutes; FAULT_DATABASE=split takes one database for each, and
# FAULT_HALF=commit runs the half of the faults that the commit's hash picks.
FAULT_DATABASE := both
FAULT_HALF := all
FAULT_SEED := 1
FAULT_RETRIES := 0
FAULT_OPTIONS = --fault-database=$(FAULT_DATABASE) --fault-half=$(FAULT_HALF) --fault-seed=$(FAULT_SEED) --fault-retries=$(FAULT_RETRIES) \
	-o log_cli=true -o log_cli_level=INFO -o log_cli_format='%(message)s' -o faulthandler_timeout=0

faults: venv-dev
	$(VENV)/bin/python -m pytest tests/faults/test_faults.py tests/faults/test_cancel_time.py $(FAULT_OPTIONS)

# One long load on one database (SQLite, unless FAULT_DATABASE=postgres).
SOAK_MINUTES := 30

soak: venv-dev
	$(VENV)/bin/python -m pytest tests/faults/test_soak.py --soak-minutes=$(SOAK_MINUTES) $(FAULT_OPTIONS)

# Each line BENCH_ROUNDS times, which takes about half an hour. BENCH_ONLY names lines, separated by commas;
# BENCH_QUICK=1 shows that all works, not how fast. The peers have a virtual environment of their own.
BENCH_ROUNDS := 3
BENCH_ONLY :=
BENCH_QUICK :=
PEERS := benchmarks/.venv

bench: venv-dev $(PEERS)/.installed
	@$(VENV)/bin/python -m benchmarks --rounds=$(BENCH_ROUNDS) --only=$(BENCH_ONLY) $(if $(BENCH_QUICK),--quick)

$(PEERS)/.installed: benchmarks/requirements.txt
	@$(PYTHON) bin/preflight
	@echo "Installing the peers into $(PEERS) ..."
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --quiet --disable-pip-version-check install -r benchmarks/requirements.txt
	@touch $@

lint: venv-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python bin/check-prose
	$(CHECK_ENV) $(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(CHECK_ENV) $(VENV)/bin/python manage.py makemigrations --check --dry-run
	$(CHECK_ENV) $(VENV)/bin/python manage.py check --deploy --fail-level WARNING
	$(CHECK_ENV) $(VENV)/bin/python manage.py plan_reference --check
	$(CHECK_ENV) $(VENV)/bin/python manage.py spectacular --validate --fail-on-warn --file /dev/null

lock: venv-dev
	$(COMPILE) --allow-unsafe --output-file=requirements-compile.txt requirements-compile.in
	$(COMPILE) --output-file=requirements-worker.txt requirements-worker.in
	$(COMPILE) --output-file=requirements.txt requirements.in
	$(COMPILE) --output-file=requirements-dev.txt requirements-dev.in
	$(COMPILE) --output-file=benchmarks/requirements.txt benchmarks/requirements.in

clean:
	@for lock in var/lock "$$galileo_state_dir/lock"; do \
		if [ -e "$$lock" ] && ! flock --nonblock "$$lock" true; then \
			echo "Galileo is running; stop it with 'make down' before make clean." >&2; exit 1; \
		fi; \
	done
	@rm -rf $(VENV) $(PEERS) var loadgen/_compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
