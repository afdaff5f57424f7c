# Every target that needs the environment makes it when it is missing or stale.
# A setting is taken from the command line alone, not from the environment, where NAME or N may mean
# anything; PYTHON may come from either.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

MODEL = lstm
DATA =
RUN = runs/$(MODEL)
NAME = names
REPOSITORY = exported_models
LISTEN = 127.0.0.1:50051
PREFIX =
N = 10
ARGS =

# What a request without a model means stays the same when other models are published.
DEFAULT = $(if $(wildcard $(REPOSITORY)/names),--default-model names)
quoted = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := help
.PHONY: help demo train export serve generate test check contract lint proto clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## train for a minute, export, serve, and ask for ten names
	$(BIN)/makemore demo $(ARGS)

train: $(STAMP) ## train MODEL=lstm [DATA=file] [RUN=runs/lstm] [ARGS='--steps 500']
	$(BIN)/makemore train --model $(MODEL) --run $(call quoted,$(RUN)) $(if $(DATA),--data $(call quoted,$(DATA))) $(ARGS)

export: $(STAMP) ## export MODEL=lstm [RUN=runs/lstm] [NAME=names] to REPOSITORY=exported_models
	$(BIN)/makemore export --run $(call quoted,$(RUN)) --name $(call quoted,$(NAME)) --repository $(call quoted,$(REPOSITORY)) $(ARGS)

serve: $(STAMP) ## serve REPOSITORY=exported_models on LISTEN=127.0.0.1:50051
	$(BIN)/makemore serve --repository $(call quoted,$(REPOSITORY)) --listen $(LISTEN) $(DEFAULT) $(ARGS)

generate: $(STAMP) ## ask the server for names: [PREFIX=em] [N=10]
	$(BIN)/makemore generate --address $(LISTEN) --prefix $(call quoted,$(PREFIX)) -n $(N) $(ARGS)

test: $(STAMP) ## run the tests
	$(BIN)/pytest $(ARGS)

check: lint ## lint, types, stubs, then the tests: all that CI runs
	$(MAKE) test

contract: $(STAMP) ## 100,000 strings of each architecture, the same however they are asked for
	CONTRACT_STRINGS=100000 $(BIN)/pytest tests/e2e/test_seed_contract.py

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
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
