# reproduce: the whole study; reproduce-paper: the paper's network, on a GPU; test: the full suite; coverage: which lines it runs;
# docs: the site; test-matrix: a selection of tests under other versions; test-mock-gpu: every method on a GPU that is not there. All
# make their own environment in .venv first, test-matrix one for each combination of versions.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: reproduce reproduce-paper test coverage test-matrix test-mock-gpu lint docs clean

reproduce: $(VENV)/.ready
	$(BIN)/python -m experiments.reproduce

# More flags by FLAGS="--train_count 8000 --count 50".
reproduce-paper: $(VENV)/.ready
	$(BIN)/python -m experiments.reproduce --preset vgg16_walls $(FLAGS)

# One test process per core, one thread each; nothing is left out.
test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

# Counting lines takes two thirds more time than the tests alone.
coverage: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --cov --cov-report=term

# FLAGS="--full", FLAGS="--only torch=2.6": see python -m tests.matrix --help.
test-matrix:
	$(PYTHON) -m tests.matrix $(FLAGS)

# Needs a C++ compiler and ninja.
test-mock-gpu: $(VENV)/.ready
	$(BIN)/python -m tests.mock_gpu $(FLAGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/site; a warning is an error.
docs: $(VENV)/.ready
	$(BIN)/python -m experiments.site
	$(BIN)/python -m zensical build --clean --strict

clean:
	rm -rf $(VENV) runs data build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage

$(VENV)/.ready: pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --clear --python $(PYTHON) $(VENV) && \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev,docs,peers,train,theory]'; \
	else \
	  $(PYTHON) -m venv --clear $(VENV) && \
	  $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,docs,peers,train,theory]'; \
	fi
	@touch $@
