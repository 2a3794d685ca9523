.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m polyp_lightning
# As many tests at a time as there are cores, each with a core of its own.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
DATASETS ?= $(or $(POLYP_DATA),datasets)

.PHONY: help install always fit test test-slow slow-suites lint format type bench gpu gpu-wheels study study-quick study-cpu study-curve ship ship-check taylor-check matrix wandb-sync data data-verify release-check lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/installed ## set up .venv with the pinned packages (about 7 GB, once; TORCH=cpu: PyTorch without CUDA)

.venv/installed: pyproject.toml requirements.lock $(if $(TORCH),always)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 …")'
	@$(PYTHON) .ci/install.py $(TORCH)

always:

fit: install ## train and prune on drawn phantom frames: no data, account or network needed
	$(RUN) fit --config configs/quickstart.yaml

test: install ## the tests, without the long ones
	$(PYTEST) -m "not slow"
	$(PYTEST) --doctest-modules polyp_lightning

# The folders that hold long suites, those whose failure matters most first.
SLOW := end_to_end callbacks checkpoints cli pruning tracking deploy ship common

test-slow: install ## the long suites (SLOW="pruning deploy": only these)
	$(PYTEST) -m slow --durations 10 $(SLOW:%=tests/%)

slow-suites: # their names, for scripts
	@echo $(SLOW)

lint: install ## ruff (rules and format), and the imports between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: install ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: install ## mypy, strict
	$(BIN)/mypy

bench: install ## speed as ratios, in one run on this machine
	$(BIN)/python tests/bench/run.py

gpu: install ## everything that has to be right and fast on a GPU, in 8 minutes (REHEARSE=1: on the CPU; DATA=FILE of pack.py)
	$(BIN)/python tests/gpu/run.py $(if $(REHEARSE),--rehearse) $(if $(DATA),--data $(DATA)) --out $(or $(OUT),runs/gpu)

gpu-wheels: install ## fetch into .whl what a GPU machine without a network lacks, and pack Kvasir-SEG into .gpu/kvasir.zip
	$(BIN)/python tests/gpu/wheels.py
	PYTHONPATH=. $(BIN)/python tests/gpu/pack.py $(DATASETS)

study: install ## the whole study, for an accelerator (OUT=FOLDER; ARGS="--executor slurm --slurm_options gpus_per_node=1": as jobs)
	$(RUN) study --config configs/study.yaml --output $(or $(OUT),runs/study) $(ARGS)

study-quick: install ## a small study on phantoms: criteria and controls over three seeds, under 30 minutes on 2 cores
	$(RUN) study --config configs/study-quick.yaml --output $(or $(OUT),runs/study-quick)

study-cpu: install ## the main comparison on Kvasir-SEG at 128² (WEIGHTS=timm-tf_efficientnet_lite0=FILE without a network)
	POLYP_DATA=$(DATASETS) $(RUN) study --config configs/study-cpu.yaml --output $(or $(OUT),runs/study-cpu) $(if $(WEIGHTS),-w $(WEIGHTS))

CURVE := $(or $(OUT),runs/study-curve$(if $(QUICK),-quick))

study-curve: install ## Dice against MACs on Kvasir-SEG, other software beside it (QUICK=1: on phantoms; MINUTES=150: a piece of it; WEIGHTS as above)
	PYTHONPATH=tests/bench POLYP_DATA=$(DATASETS) $(RUN) study --config configs/study-curve$(if $(QUICK),-quick).yaml --output $(CURVE) \
		$(if $(WEIGHTS),-w $(WEIGHTS)) $(if $(MINUTES),--time_limit $(MINUTES)) $(ARGS)
	$(if $(MINUTES),-)$(RUN) report $(CURVE) --no_frames -o $(CURVE)/report.html --curve $(CURVE)/curve

ship: install ## train the networks that ship, or go on with them (OUT=FOLDER; WEIGHTS=FILE without a network)
	POLYP_DATA=$(DATASETS) OUT=$(OUT) WEIGHTS=$(WEIGHTS) ARGS="$(ARGS)" bash configs/ship.sh

ship-check: install ## what the package's networks reach: scores, alarms, speed, overlays (OUT=FOLDER; ARGS="--video FILE")
	POLYP_DATA=$(DATASETS) $(BIN)/python tests/ship/check.py --out $(or $(OUT),runs/ship-check) $(ARGS)

taylor-check: install ## does the score predict what removal does? (CKPT=FILE; else a small network is trained first)
	$(RUN) taylor-check $(if $(CKPT),--ckpt_path "$(CKPT)")

matrix: install ## prune every architecture with every family of encoders (RECORD=1: note the frozen shares for the tests)
	$(BIN)/python tests/pruning/matrix/run.py --csv runs/matrix.csv $(if $(RECORD),--record)

wandb-sync: install ## upload the W&B runs below runs/ that were kept offline
	@$(BIN)/python -m polyp_lightning.tracking.sync

data: install ## fetch Kvasir-SEG into datasets/ (or $POLYP_DATA), and say how to get CVC-ClinicDB
	$(RUN) data fetch kvasir --data_root $(DATASETS)

data-verify: install ## compare Kvasir-SEG with the official files' hashes
	$(RUN) data verify kvasir --data_root $(DATASETS)

release-check: install ## build wheel and sdist into dist/, install into an empty environment and run the first verbs (FULL=1: fit too)
	rm -rf dist
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist
	RELEASE=$(CURDIR)/dist FULL=$(FULL) $(BIN)/python -m pytest -m slow tests/deploy/test_installed.py

lock: install ## pin the newest allowed packages, with hashes and without addresses
	$(BIN)/uv pip compile pyproject.toml --quiet --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --output-file requirements.lock

clean: ## remove .venv and what tools leave behind; runs/ and datasets/ stay
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find polyp_lightning tests -name __pycache__ -type d -prune -exec rm -rf {} +
