# Everything works from a fresh clone with Python 3.11 or newer and nothing else: `make demo`.
# The virtual environment is .venv; it is made once, and again when the requirements change.

SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.install-stamp

# The first Python that is new enough; `make install PYTHON=/path/to/python3.12` chooses another.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# `make test-slow PART=1/6` runs half of the tests, and a sixth of their further cases; .ci/run others each day.
# Options for pytest: `make test T="tests/config/test_flags.py -n 0"`. With worksteal a worker keeps to its modules, so
# that what a module trains for all its tests is trained once, and takes from others when it has none left.
T ?= -n auto --maxprocesses 8 --dist worksteal

# The page of `litscope studio`, from our TypeScript and the libraries that its lock file names. Without npm's registry
# everything else works.
PAGE := litscope/studio/page
BUILT := $(PAGE)/dist/stamp.txt

.PHONY: help install page demo test test-slow lint format bench bench-full docs clean

help:
	@echo "make demo       train a small model on real images, and look at the run (installs first)"
	@echo "make install    .venv with litscope (editable) and the test tools, the exact tested set"
	@echo "make test       the fast tests        make test-slow   the ones that take minutes"
	@echo "make lint       ruff, mypy, tsc, biome   make format   let ruff and biome rewrite"
	@echo "make page       the page of litscope studio, from its sources"
	@echo "make bench      speed beside others, in minutes   make bench-full   all of it, within an hour"
	@echo "make docs       the site, into site/  make clean       remove .venv, caches, site/, dist/"

install: $(STAMP) page

page: $(BUILT)

$(BUILT): $(STAMP) $(shell find $(PAGE)/src -type f) $(wildcard $(PAGE)/*.json $(PAGE)/*.mjs)
	@$(BIN)/python scripts/page.py build && touch $@ || echo "litscope studio has no page until: make page"

# The .pth line lets scripts and notebooks of this environment import lightning or timm before
# litscope although torchvision's C extension does not fit a CPU torch (litscope/_torchvision.py).
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; make install PYTHON=/path/to/it"; exit 1; }
	@echo "Installing into .venv (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@echo 'import importlib.util as u; u.find_spec("litscope") and __import__("litscope")' \
		> "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/litscope_torchvision.pth"
	@touch $@
	@echo "Ready. To have the command at hand: source .venv/bin/activate"

demo: install
	@$(BIN)/litscope demo

test: install
	@$(BIN)/python -m pytest $(T)

test-slow: install
	@$(BIN)/python -m pytest -m slow $(T) $(if $(PART),--part $(PART))

lint: install
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python scripts/page.py lint
	@$(BIN)/mypy

format: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/python scripts/page.py format

# Names of benches: `make bench B="small_mlp help"`; `python bench/run.py --list` tells them.
bench: install
	@$(BIN)/python bench/run.py $(B); code=$$?; $(BIN)/python scripts/performance.py; exit $$code

bench-full: install
	@$(BIN)/python bench/run.py --full $(B); code=$$?; $(BIN)/python scripts/performance.py; exit $$code

docs: install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "site/index.html is ready"

clean:
	rm -rf $(PAGE)/dist $(PAGE)/node_modules
	rm -rf .venv site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find litscope tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} +
