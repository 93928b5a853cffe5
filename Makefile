# movie-mlops: `make` alone explains each recipe in one line.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
SOURCE ?=
DATA ?=
HOME_DIR ?=
TORCH ?=
WORKERS ?= 1
ENGINES ?= embedded
BIN := $(VENV)/bin
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
UP_FLAGS := --port $(PORT) --workers $(WORKERS) $(if $(TORCH),--torch) $(if $(SOURCE),--source $(SOURCE)) $(if $(DATA),--data "$(DATA)") $(if $(HOME_DIR),--home "$(HOME_DIR)")

.DEFAULT_GOAL := help
.PHONY: help up test check demo setup setup-dev setup-engines browser test-fast test-engines generate requirements clean clean-home

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

up: setup ## set everything up, train, serve API and page; PORT= WORKERS= SOURCE=sample|movielens|tmdb DATA= HOME_DIR= TORCH=1
	@exec $(BIN)/movie-mlops up $(UP_FLAGS)

test: setup-dev browser check ## set everything up and check everything (what CI runs)

check: ## format, lint, import contracts, types, generated files, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/python scripts/generate.py --check
	$(BIN)/pytest $(PARALLEL) -m "not slow and not engine"
	@if [ -d frontend/node_modules ]; then cd frontend && npm run --silent check; \
	 else echo "page checks left out: Node 20 or later is not there"; fi

demo: setup $(if $(filter real,$(ENGINES)),setup-engines) ## the whole story: a click, drift, a better model; two bad ones stay out; ENGINES=real
	@$(BIN)/movie-mlops demo --engines $(ENGINES)

test-fast: ## unit and contract tests only
	$(BIN)/pytest $(PARALLEL) tests/unit tests/contracts -m "not slow and not engine"

test-engines: setup-dev setup-engines ## the slow tests and those that need an engine, which they install or start
	$(BIN)/pytest -m "slow or engine"

setup:
	@$(PYTHON) scripts/setup_env.py --venv $(VENV) $(if $(TORCH),--torch)

setup-dev:
	@$(PYTHON) scripts/setup_env.py --venv $(VENV) --dev --torch

setup-engines:
	@$(PYTHON) scripts/setup_env.py --venv $(VENV) --airflow --spark
	-@$(BIN)/movie-mlops stack install

browser:
	@sh scripts/install_browser.sh

generate: ## write the generated files anew (.env.template, docs/reference)
	$(BIN)/python scripts/generate.py

requirements: ## compile the exact pins anew from pyproject.toml
	$(BIN)/uv pip compile -q --universal -p 3.11 --no-annotate --no-header --extra kafka --extra reports --extra stack --extra training pyproject.toml -o requirements/base.txt
	$(BIN)/uv pip compile -q --universal -p 3.11 --no-annotate --no-header --extra kafka --extra reports --extra stack --extra training --group dev pyproject.toml -c requirements/base.txt -o requirements/dev.txt
	UV_FIND_LINKS="$$($(PYTHON) -m pip config get global.find-links 2>/dev/null)" $(BIN)/uv pip compile -q -p 3.11 --no-annotate --no-header --extra torch pyproject.toml -c requirements/base.txt \
	 | sed 's/+cpu$$//' | awk -F'==' 'NR == FNR { there[$$1]; next } !($$1 in there)' requirements/base.txt - > requirements/torch.txt
	$(BIN)/uv pip compile -q --universal -p 3.11 --no-annotate --no-header --extra spark pyproject.toml -c requirements/base.txt \
	 | awk -F'==' 'NR == FNR { there[$$1]; next } !($$1 in there)' requirements/base.txt - > requirements/spark.txt
	$(BIN)/uv pip compile -q --universal -p 3.11 --no-annotate --no-header requirements/airflow.in -o requirements/airflow.txt

clean: ## remove environment and caches; never data/, var/ or .env
	rm -rf $(VENV) frontend/node_modules frontend/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

clean-home: ## remove data/ and var/ of HOME_DIR (default: here); needs CONFIRM=yes
	@test "$(CONFIRM)" = yes || { echo "This deletes data/ and var/ of '$(or $(HOME_DIR),.)'. Say: make clean-home CONFIRM=yes"; exit 2; }
	rm -rf "$(or $(HOME_DIR),.)/data" "$(or $(HOME_DIR),.)/var"
