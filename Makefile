# reproduce: the whole study; test: the full suite; docs: the site. Each makes its own environment in .venv first.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: reproduce test lint docs clean

reproduce: $(VENV)/.ready
	$(BIN)/python -m experiments.reproduce

# One test process per core, one thread each; nothing is left out.
test: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --cov --cov-report=term

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The site, in build/site; a warning is an error.
docs: $(VENV)/.ready
	$(BIN)/python -m experiments.site
	$(BIN)/python -m zensical build --clean --strict

clean:
	rm -rf $(VENV) runs data build dist *.egg-info .pytest_cache .ruff_cache .coverage

$(VENV)/.ready: pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --clear --python $(PYTHON) $(VENV) && \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev,docs,peers]'; \
	else \
	  $(PYTHON) -m venv --clear $(VENV) && \
	  $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,docs,peers]'; \
	fi
	@touch $@
