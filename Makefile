# Every target that needs the environment makes it when it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

MODEL ?= lstm
DATA ?=
RUN ?= runs/$(MODEL)
NAME ?= names
REPOSITORY ?= exported_models
LISTEN ?= 127.0.0.1:50051
PREFIX ?=
N ?= 10
ARGS ?=

PROTOS := $(wildcard proto/makemore/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help demo train export serve generate test check lint proto clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## train for a minute, export, serve, and ask for ten names
	$(BIN)/makemore demo $(ARGS)

train: $(STAMP) ## train MODEL=lstm [DATA=file] [RUN=runs/lstm] [ARGS='--steps 500']
	$(BIN)/makemore train --model $(MODEL) --run $(RUN) $(if $(DATA),--data '$(DATA)') $(ARGS)

export: $(STAMP) ## export MODEL=lstm [RUN=runs/lstm] [NAME=names] to REPOSITORY=exported_models
	$(BIN)/makemore export --run $(RUN) --name $(NAME) --repository $(REPOSITORY) $(ARGS)

serve: $(STAMP) ## serve REPOSITORY=exported_models on LISTEN=127.0.0.1:50051
	$(BIN)/makemore serve --repository $(REPOSITORY) --listen $(LISTEN) $(ARGS)

generate: $(STAMP) ## ask the server for names: [PREFIX=em] [N=10]
	$(BIN)/makemore generate --address $(LISTEN) --prefix '$(PREFIX)' -n $(N) $(ARGS)

test: $(STAMP) ## run the tests
	$(BIN)/pytest $(ARGS)

check: lint ## lint, types, stubs, then the tests: all that CI runs
	$(MAKE) test

lint: $(STAMP) ## style, types and protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd proto && ../$(BIN)/buf lint

proto: $(STAMP) ## make the stubs anew from the .proto files
	$(BIN)/python -m tests.stubs proto

clean: ## remove the environment, caches and builds; runs and models stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find trainer serving tests proto -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "makemore needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
