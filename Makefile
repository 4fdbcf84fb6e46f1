PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test check lint types bench clean

demo: $(VENV)/ready          ## build, run and rebuild an example; needs no network but the package registry
	examples/demo/run $(BIN)/minibuild

test: $(VENV)/ready          ## all tests
	$(BIN)/pytest -n auto

check: lint types            ## what CI checks beside the tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy

bench:                       ## minibuild beside the builders installed here; writes benchmarks/RESULTS.md
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet .
	$(VENV)-bench/bin/python benchmarks/run.py

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-bench build dist *.egg-info
