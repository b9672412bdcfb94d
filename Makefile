# make help lists the targets. Variables: PYTHON, VENV, TORCH, TORCH_INDEX, JOBS.
PYTHON ?= python3
VENV ?= .venv
# The torch to install, before anything else: what another package asks for would bring several GB of CUDA libraries.
#   no GPU:   make demo TORCH_INDEX="--index-url https://download.pytorch.org/whl/cpu"
#   CUDA:     make demo TORCH="torch>=2.6,<2.14"
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
JOBS ?= 2

PY := $(VENV)/bin/python
READY := $(VENV)/.ok

.PHONY: help demo test test-slow check format bench golden build clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The environment, made once by whichever target comes first.
$(READY): pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade "pip>=24"
	$(PY) -m pip install --quiet $(TORCH_INDEX) "$(TORCH)"
	$(PY) -m pip install --quiet -c constraints.txt "$(TORCH)" -e ".[dev]"
	touch $@

demo: $(READY) ## train the small NavDP, evaluate it on unseen scenes, export it, write the report
	$(PY) -m robot.train policy=navdp experiment=demo

test: $(READY) ## the tests, without the slow ones
	$(PY) -m pytest -n $(JOBS)

test-slow: $(READY) ## the tests that take minutes
	$(PY) -m pytest -n $(JOBS) -m slow

check: $(READY) ## formatting, lint, types, spelling, tests
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m pyright --pythonpath $(PY)
	$(PY) -m codespell_lib
	$(PY) -m pytest -n $(JOBS)

format: $(READY) ## format and sort imports
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: $(READY) ## the benchmarks, each beside its peers in the same run; JSON (l2f compiles for minutes)
	$(PY) -m pip install --quiet -c constraints.txt "$(TORCH)" -e ".[perception,peers]"
	@set -e; for file in tests/bench/bench_*.py; do name=$${file%.py}; $(PY) -m $$(echo $$name | tr / .); done

golden: $(READY) ## renew tests/golden/*.json and print what changed
	$(PY) -m pytest tests/golden --renew -s

build: $(READY) ## wheel in dist/
	$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean: ## remove the environment and caches, keep runs/ and data/
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
