# Two commands: `make demo` compares the methods on real images, `make test` checks everything.

# Data sets and weights beyond the embedded digits; tests that need them skip where the folder is absent.
ifneq ($(wildcard ../shared/data),)
export XAICOMPARE_DATA ?= $(abspath ../shared/data)
endif

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Needs no network. The variable stops a notice of the theme's; --quiet would stop the warnings that --strict counts.
PYTEST := $(BIN)/python -m pytest -q --numprocesses auto --dist worksteal
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: demo explore test quick check docs format speed zoo clean

demo: .venv/.installed  ## compare all methods on handwritten digits, and make a page of it
	$(BIN)/xaicompare run benchmarks/suites/digits.toml --out runs/digits
	$(BIN)/xaicompare report runs/digits

explore: .venv/.installed-explore  ## a page to draw digits, remove pixels and see every map, on this machine only
	$(BIN)/xaicompare explore

test: .venv/.installed-dev  ## all tests
	$(PYTEST)

quick: .venv/.installed-dev  ## a minute: lint, and one case of each test that doesn't take long
	$(BIN)/ruff check .
	$(PYTEST) --quick

check: .venv/.installed-dev  ## format, lint, types, documentation, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(DOCS)
	$(PYTEST)

docs: .venv/.installed-dev  ## the documentation, into site/: site/index.html
	$(DOCS)

format: .venv/.installed-dev  ## rewrite the files as `check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

speed: .venv/.installed-dev  ## ratios against the libraries underneath
	$(BIN)/python benchmarks/speed/adapters.py
	$(BIN)/python benchmarks/speed/lrp.py --peers
	$(BIN)/python benchmarks/speed/guidance.py
	$(BIN)/python benchmarks/speed/pruning.py
	$(BIN)/python benchmarks/speed/metrics.py
	$(BIN)/python benchmarks/speed/attended.py
	$(BIN)/python benchmarks/speed/cams.py
	$(BIN)/python benchmarks/speed/studies.py memory
	$(BIN)/python benchmarks/speed/studies.py overhead
	$(BIN)/python benchmarks/speed/studies.py jobs

zoo: .venv/.installed-dev  ## every method on every architecture: rewrites docs/zoo.md
	$(BIN)/python benchmarks/zoo.py --out docs/zoo.md

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	@touch $@

.venv/.installed-explore: .venv/.installed
	$(INSTALL) --editable '.[explore]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv runs site .mypy_cache .ruff_cache .pytest_cache
