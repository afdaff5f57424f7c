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
NAME =
REPOSITORY = exported_models
LISTEN = 127.0.0.1:50051
PREFIX =
N = 10
ARGS =

# The image: cpu or gpu, what it is built on, and what docker or podman is to be told besides.
VARIANT = cpu
BASE =

# What a request without a model means stays the same when other models are published.
DEFAULT = $(if $(wildcard $(REPOSITORY)/names),--default-model names)
# A repository that is named takes the place of the one in the image.
NAMED = $(if $(filter command line,$(origin REPOSITORY)),$(REPOSITORY))
IMAGE = VARIANT=$(VARIANT) BASE=$(BASE) PUBLISH=$(LISTEN) REPOSITORY=$(call quoted,$(NAMED)) serving/image.sh
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--constraint constraints.txt --custom-compile-command 'make lock'
quoted = '$(subst ','\'',$(1))'

.DEFAULT_GOAL := help
.PHONY: help demo train export serve generate test check contract fault bench lint proto lock sbom image image-base image-test run-image clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## train for a minute, export, serve, and ask for ten names
	$(BIN)/makemore demo $(ARGS)

train: $(STAMP) ## train MODEL=lstm [DATA=file] [RUN=runs/lstm] [ARGS='--steps 500']
	$(BIN)/makemore train --model $(MODEL) --run $(call quoted,$(RUN)) $(if $(DATA),--data $(call quoted,$(DATA))) $(ARGS)

export: $(STAMP) ## export MODEL=lstm [RUN=runs/lstm] [NAME=lstm, as RUN is] to REPOSITORY=exported_models
	$(BIN)/makemore export --run $(call quoted,$(RUN)) $(if $(NAME),--name $(call quoted,$(NAME))) --repository $(call quoted,$(REPOSITORY)) $(ARGS)

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

fault: $(STAMP) ## break things for half an hour, and write what was seen into docs/reliability.md
	rm -rf build/fault
	$(BIN)/pytest -m fault --timeout 1500 tests/fault $(ARGS); status=$$?; \
		$(BIN)/python -m tests.fault.report && exit $$status

bench: $(STAMP) ## measure training and serving beside their peers, and write benchmarks/README.md
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.serving --write
	$(BIN)/python -m benchmarks.training --write

lint: $(STAMP) ## style, types and protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd proto && ../$(BIN)/buf lint

proto: $(STAMP) ## make the stubs anew from the .proto files
	$(BIN)/python -m tests.stubs proto

image: ## build the server's image: [VARIANT=cpu] [BASE=image]; docker or podman, whichever is there
	@$(IMAGE) build

run-image: ## run it as `make serve` does: [REPOSITORY=folder] [LISTEN=127.0.0.1:50051] [ARGS='--memory 300m']
	@$(IMAGE) run $(ARGS)

image-base: ## a base image from Debian packages, for machines that reach no registry of images
	@$(IMAGE) base

image-test: $(STAMP) ## build the image and try it: read-only, unprivileged, in 300 MB, stopped under load
	$(BIN)/pytest -m image tests/image $(ARGS)

lock: $(STAMP) ## what the image installs, with hashes: serving/requirements-*.lock
	$(LOCK) --extra serve -o serving/requirements-cpu.lock pyproject.toml
	$(LOCK) --extra serve-gpu -o serving/requirements-gpu.lock pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "ziglang", sep="\n")' | \
		$(LOCK) -o serving/requirements-build.lock -

sbom: $(STAMP) ## a bill of the image's Python packages: [VARIANT=cpu] to build/sbom-VARIANT.cdx.json
	$(BIN)/uv venv --quiet --clear build/sbom
	$(BIN)/uv pip sync --quiet --python build/sbom --require-hashes serving/requirements-$(VARIANT).lock
	$(BIN)/uv pip install --quiet --python build/sbom --no-deps .
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		-o build/sbom-$(VARIANT).cdx.json build/sbom/bin/python

clean: ## remove the environment, caches and builds; runs and models stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find trainer serving tests proto -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt hatch_build.py $(wildcard serving/engine/*.c)
	@rm -f $@
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "makemore needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
