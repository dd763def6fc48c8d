# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv on first use.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test check bench install clean

demo: $(STAMP)
	$(BIN)/reinvest demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_public_names.py tests/test_budgets.py tests/test_revisions.py

bench: $(STAMP)
	$(BIN)/python -m benchmarks

install: $(STAMP)

# torch first and alone: the pinned version keeps every later resolution away from the CUDA builds.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf .venv runs report.html report.json
