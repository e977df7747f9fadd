# Two commands for a fresh machine: `make demo` and `make test`. Neither needs root; both do only what is missing.
PYTHON ?= python3
BIN := .venv/bin
# Tests run in one process for each core, with one thread each, whole runs first.
WORKERS := -n logical --maxprocesses 4 --no-loadscope-reorder
SIDE_BY_SIDE := OMP_NUM_THREADS=1
# The lock that .venv was installed from, requirements.lock unless another was named: make setup LOCK=requirements-volta.lock
INSTALLED := $(or $(shell cat .venv/installed 2>/dev/null),requirements.lock)
LOCK ?= $(INSTALLED)
PIP_COMPILE := .venv/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host --no-header
# What torch is built with, which changes with it.
TORCH := ^(torch|torchvision|triton|cuda-.*|nvidia-.*)==
# Pictures, vocabularies of language models and a checker of pages that only tests use.
TEST_ASSETS := foolbox llama-tokenizer-js tokenizer-llama3 tokenizer-qwen3 tokenizer-gemma3 tokenizer-gptoss \
	tokenizer-deepseek-v3 axe-core
.DEFAULT_GOAL := help
.PHONY: another-lock help setup assets demo demo-training test test-slurm lint format lock

help:
	@echo "make demo    environment, demo assets, then every table, every figure and the report of the demo"
	@echo "make test    environment, demo assets and 0.13 GB for tests alone, then the test suite"
	@echo "make test-slurm  the tests that need a cluster, on a SLURM of four nodes on this machine (Debian; needs root)"
	@echo "make demo-training  the demo's tokenizers anew from nothing, into weights/demo/ (minutes on a GPU, many hours on two cores)"
	@echo "make setup   the environment in .venv alone; with LOCK=requirements-volta.lock for NVIDIA cards older than Turing"
	@echo "make lint    style of Python and rule files, and types; make format applies it"
	@echo "make lock    requirements.lock, requirements-volta.lock and environment.yml anew from the .in files"

setup: .venv/installed

.venv/installed: $(LOCK) $(if $(filter-out $(INSTALLED),$(LOCK)),another-lock)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "v2l needs Python 3.11: install it and set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Environment: about 3.1 GB of packages are downloaded into .venv, once (torch comes as its CUDA build)."
	$(PYTHON) -m venv .venv
	@# Source packages are built with the locked tools, not with whatever is newest.
	@awk '/^[a-z]/ { wanted = /^(packaging|setuptools|wheel)==/ } wanted' $(LOCK) > .venv/build.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/build.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation -r $(LOCK)
	@echo $(LOCK) > $@

assets: setup
	@$(BIN)/python -m v2l.fetch_assets announce demo
	@$(BIN)/snakemake fetch_assets --config experiment=demo --quiet all

demo: assets
	@$(BIN)/snakemake all_tables all_figures --config experiment=demo
	@$(BIN)/snakemake report --config experiment=demo

# Minutes on a GPU, many hours on two cores; started again, it goes on from its checkpoints.
demo-training: assets
	$(BIN)/snakemake all_tables --until train_tokenizer --config experiment=demo-training
	$(BIN)/python -m tools.demo_weights

test: assets
	@$(BIN)/python -m v2l.fetch_assets announce demo $(TEST_ASSETS)
	@$(BIN)/snakemake $(TEST_ASSETS:%=assets/%/asset.json) --config experiment=demo --quiet all
	$(SIDE_BY_SIDE) $(BIN)/python -m pytest $(WORKERS)

# Bounded, and the clusters are stopped however the tests end.
test-slurm: setup
	@test "$$(id -u)" = 0 || { echo "make test-slurm needs root: it starts a SLURM of four nodes on this machine"; exit 1; }
	@bash tests/slurm/install.sh
	trap '$(BIN)/python -m tests.slurm.cluster stop' EXIT; \
		$(SIDE_BY_SIDE) timeout --signal=INT --kill-after=60 1500 $(BIN)/python -m pytest $(WORKERS) -m slurm

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check workflow
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt workflow

lock: setup
	$(BIN)/python -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet pip-tools
	$(PIP_COMPILE) --output-file requirements.lock requirements.in
	@# The second lock is the first with another torch.
	grep -vE '$(TORCH)' requirements.in | cat - requirements-volta.in > .venv/lock/volta.in
	grep -oE '^[A-Za-z0-9._-]+==[^ ]+' requirements.lock | grep -vE '$(TORCH)' > .venv/lock/constraints.txt
	$(PIP_COMPILE) --no-annotate --constraint .venv/lock/constraints.txt \
		--output-file requirements-volta.lock .venv/lock/volta.in
	$(BIN)/python tools/environment.py
