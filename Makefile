# Everything from a fresh machine with Python 3.11 and make: `make demo`, `make test`.

VENV   := .venv
BIN    := $(VENV)/bin
SMALL  := $(VENV)/.forecasts
STAMP  := $(VENV)/.installed
DEMO   := demo
TORCH  := torch==2.13.0
# The first of these that is Python 3.11 or later; say `make PYTHON=/path/to/python` for another.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
# Tests run in WORKERS processes of one thread each: small tensors on many threads are slower, not faster.
# A file stays in one process; tests/conftest.py says which files begin.
WORKERS ?= 2
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not soak"

# pip is either silent or speaks in a thousand lines; this tells how far it is.
INSTALL = $(BIN)/python -m pip install --progress-bar off -c constraints.txt
TELL    = $(BIN)/python scripts/pip_progress.py
SHELL  := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-pandas2 test-adapters check docs wheel bench gpu soak mutants lock clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install the tested versions of everything into it

$(SMALL): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later was found. Install one, or run: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what forecasts, charts and the studio need into $(VENV): two to four minutes and 2 GB, once."
	@set -o pipefail; $(INSTALL) "$(TORCH)" | $(TELL) 10
	@set -o pipefail; $(INSTALL) -e '.[fast,plot,serve]' | $(TELL) 70
	@touch $@

$(STAMP): $(SMALL)
	@echo "Installing the tools of tests, training and documents beside it: about three minutes and 2 GB, once."
	@set -o pipefail; $(INSTALL) -e '.[dev]' | $(TELL) $$(grep -c == constraints.txt)
	@touch $@

demo: $(SMALL) ## forecast real bars with the packaged checkpoint: a table here, charts in demo/
	@mkdir -p $(DEMO)
	@$(BIN)/kronos forecast sample:sp500 --horizon 24 --samples 100 --calendar XNYS \
		-o $(DEMO)/forecast.html -o $(DEMO)/forecast.csv -o $(DEMO)/forecast.png

test: check ## lint, types and the whole test suite (about 25 minutes on 2 quiet cores)
	$(PYTEST)

PANDAS2 := $(CURDIR)/.cache/pandas2
test-pandas2: setup ## the test suite with the latest pandas 2, which is laid over the environment from a folder
	test -d $(PANDAS2)/pandas || $(BIN)/python -m pip install --quiet --no-deps --target $(PANDAS2) "pandas<3"
	PYTHONPATH=$(PANDAS2) $(PYTEST)

# Libraries that ask for pandas 2, with the few packages of their own that are not here, laid over the environment too.
ADAPTERS := $(CURDIR)/.cache/adapters
LIBRARIES := "pandas<3" pytz "gluonts==0.17.0" "toolz<1" "sktime==1.2.0" "scikit-base<1.2" "fev==0.10.0" "datasets<5" \
	"multiprocess<0.70.20" xxhash "fsspec<2026.3" "huggingface_hub<2" "nautilus_trader==1.221.0" "msgspec<1" portion
test-adapters: setup ## the adapters' tests with GluonTS, sktime, fev and nautilus_trader (470 MB, once)
	test -d $(ADAPTERS)/gluonts || $(BIN)/python -m pip install --quiet --no-deps --target $(ADAPTERS) $(LIBRARIES)
	PYTHONPATH=$(ADAPTERS) $(THREADS) $(BIN)/python -m pytest tests/adapters

check: setup ## lint, format and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup ## build the documentation into site/; stops at any warning
	$(BIN)/zensical build --strict --clean

wheel: setup ## build dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

bench: setup ## every benchmark, results in benchmarks/results, the table in docs/performance.md (about 20 minutes)
	$(BIN)/python -m benchmarks.decode --all
	$(BIN)/python -m benchmarks.memory --keep
	$(BIN)/python -m benchmarks.start --keep
	$(BIN)/python -m benchmarks.windows --keep
	$(BIN)/python -m benchmarks.precision --keep
	$(BIN)/python -m benchmarks.results
	$(BIN)/python -m benchmarks.bars --json
	$(BIN)/python -m benchmarks.quality --model kronos-nano --json

gpu: setup ## on a machine with a GPU: marked tests, speed, training, results in .gpu/out or $$OUT (12 minutes)
	$(BIN)/python -m benchmarks.gpu

soak: setup ## the tests that take minutes each (about half an hour)
	$(THREADS) $(BIN)/python -m pytest -m soak

# One module: make mutants MODULE=kronos.bars.calendar.grid
MODULE ?= kronos
mutants: setup ## change the code in small ways and list the changes that no test notices (about an hour)
	$(THREADS) $(BIN)/mutmut run --max-children $(WORKERS) '$(MODULE).*'
	$(BIN)/mutmut results

lock: setup ## write the versions of this environment into constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt.new
	{ echo "# The tested versions; written by 'make lock'."; sed 's/^torch==.*/$(TORCH)/' constraints.txt.new; } > constraints.txt
	@rm constraints.txt.new
	@touch $(SMALL) $(STAMP)

clean: ## remove what was built; the environment too
	rm -rf $(VENV) $(DEMO) build dist site mutants .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
