# `make serve` and `make test` need Python 3.11 or newer with venv, and nothing else: each sets up
# what it needs in .venv and does nothing twice.

ifndef PYTHON
PYTHON := $(shell .ci/find-python)
endif
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=

.PHONY: serve test test-all check format bench bench-status soak lab clean

serve: $(VENV)/run.stamp  ## serve on the default ports; options in ARGS
	exec $(BIN)/trio-services serve $(ARGS)

test: $(VENV)/dev.stamp  ## the whole suite; pytest's options in ARGS
	$(BIN)/python -m pytest $(ARGS)

test-all:  ## the suite on every supported Python of this machine
	set -e; for python in $$(.ci/find-python all); do \
		echo "=== $$($$python --version)"; \
		$(MAKE) test PYTHON=$$python VENV=.venv-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	done

check: $(VENV)/dev.stamp  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/bench.stamp  ## measure all variants; names of experiments, or options, in ARGS
	$(BIN)/services-lab run $(if $(ARGS),$(ARGS),speed)

bench-status: $(VENV)/bench.stamp  ## what the status page costs; rounds in ARGS
	$(BIN)/python benchmarks/status.py $(ARGS)

soak: $(VENV)/bench.stamp  ## see whether the server leaks under mixed load; seconds in ARGS
	$(BIN)/python benchmarks/soak.py $(ARGS)

lab: $(VENV)/bench.stamp  ## ask every variant, write a report; options in ARGS
	$(BIN)/services-lab report $(ARGS)

clean:
	rm -rf .venv .venv-* dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/python.stamp:
	@test -n "$(PYTHON)"  # .ci/find-python has said what is missing
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[status]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,check,compare,status]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/bench.stamp: $(VENV)/run.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[compare,status]'
	@touch $@
