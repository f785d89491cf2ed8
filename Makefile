# `make` alone prints this help. Every target makes .venv from constraints.txt first.
PYTHON ?= python3
BIN := .venv/bin
# one thread a process: two that fight over two cores are slower than one
export OMP_WAIT_POLICY := PASSIVE
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help install demo test test-slow parity lint types smoke nano-base instruments clean
help:
	@echo "make demo            train, sample, score and tabulate ID-LoRA on the nano world (QUICK=1: a short version)"
	@echo "make test            the default tests"
	@echo "make test-slow       the tests marked slow"
	@echo "make parity          our numbers against the authors', on the cases kept in tests/parity/golden"
	@echo "make lint types      ruff, mypy"
	@echo "make smoke           the whole path once, small"
	@echo "make nano-base       pre-train the nano base from zero, and check the instruments with its codecs"
	@echo "make instruments     train the instruments from zero"

.venv/installed: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# tests compare with it; its opencv-python would overwrite the opencv that mediapipe brings
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps insightface
	touch $@

install: .venv/installed

demo: install
	$(BIN)/python experiments/demo.py $(if $(QUICK),--quick)

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n 2 --dist loadfile

parity: install
	$(BIN)/idlora parity tests/parity/golden

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install
	$(BIN)/mypy idlora_pl data_tools benchmarks experiments/demo.py experiments/calibration

smoke: install
	rm -rf runs/smoke
	$(BIN)/python experiments/demo.py --quick --output runs/smoke

# Sized for 30 minutes on two cores; the shipped base is the command's default, 12,000 clips and 1,800 steps.
# Latents change with the codecs, so the adapter that is shipped must be trained again afterwards: see docs/nano.md.
nano-base: install
	$(BIN)/python -m idlora_pl.nano.pretraining.base --clips 9000 --steps 1200
	$(BIN)/python -m idlora_pl.nano.pretraining.instruments --output idlora_pl/nano/assets --only_check true

instruments: install
	$(BIN)/python -m idlora_pl.nano.pretraining.instruments --output idlora_pl/nano/assets

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache
