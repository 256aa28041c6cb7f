# Two commands do everything: `make serve` and `make test`. PYTHON is any Python from 3.11 on.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: serve test lint bench pins

serve: .venv/runtime
	$(BIN)/clinvoker serve $(ARGS)

test: .venv/test
	$(BIN)/python -m tests.support.clis
	$(BIN)/python -m tests.support.prometheus
	$(BIN)/python -m tests.support.clients
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/test
	$(BIN)/python -m tests.support.clis
	$(BIN)/python -m tests.bench $(ARGS)

# The exact versions, with their hashes and without anybody's addresses. Needs uv; only for whoever changes a pin.
pins:
	echo setuptools | uv pip compile -q pyproject.toml - --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header -o requirements.txt
	echo setuptools | uv pip compile -q pyproject.toml - --extra test --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header -o requirements-test.txt
	for name in tests/clients/requirements/*.in; do \
		uv pip compile -q $$name --universal --python-version 3.11 \
			--generate-hashes --no-annotate --no-header -o $${name%.in}.txt; done

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.txt pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/test: requirements-test.txt .venv/runtime
	$(BIN)/pip install --quiet --require-hashes -r requirements-test.txt
	touch $@
