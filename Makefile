VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Compiled files are kept, also where the environment says otherwise: tests start many processes.
unexport PYTHONDONTWRITEBYTECODE

# Where torch without CUDA is; what cannot be reached is left out, and torch comes with CUDA.
CPU_TORCH := https://download.pytorch.org/whl/cpu
RUN_TIME := --constraint constraints.txt --editable .

.PHONY: demo light test test-priors test-browser test-deploy test-whole test-wheel pages check docs bench clean install

demo: install
	$(BIN)/pchmr demo

# Run-time dependencies alone: enough for every verb on photos and rendered people.
light:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	{ command -v uv > /dev/null \
		&& uv pip install --python $(BIN)/python --torch-backend cpu $(RUN_TIME); } \
		|| $(BIN)/python -m pip install --quiet --no-compile --extra-index-url $(CPU_TORCH) $(RUN_TIME)
	du -sh $(VENV)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-whole: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "whole and not slow"

test-priors: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "priors and not browser"

test-browser: install pages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser

pages: install
	$(BIN)/python -m pchmr.workshop.pages

test-deploy: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m deploy tests/deploy

test-wheel: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m wheel

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict --quiet

bench: install
	OMP_NUM_THREADS=1 $(BIN)/pchmr bench speed

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[video,export,dev,oracle]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build dist
