# make demo    sets up what is missing, then runs TinyMetaFed on four emulated nodes
# make test    sets up what is missing, then runs every test
# make help    the rest
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
PYTHON ?= python3
BIN := $(abspath $(VENV))/bin
RUN := $(BIN)/tinymetafed run
# The image and the codec are built with the zcbor of the virtual environment.
CMAKE := PATH="$(BIN):$$PATH" cmake -G Ninja -S firmware
# What a build says is shown when it fails.
build = cmake --build $(1) >build/build.log 2>&1 || { cat build/build.log; exit 1; }

.PHONY: help setup packages firmware demo smoke validate test lint profile clean

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: packages $(VENV)/.installed firmware ## install and build what is missing

packages:
	@PYTHON=$(PYTHON) bash emulation/packages.sh

$(VENV)/.installed: pyproject.toml | packages
	@echo "Installing the Python packages into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; give another one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

firmware: $(VENV)/.installed build/qemu/libtmf_count.so | packages ## build the firmware: for the nodes, for the host, with sanitizers
	@test -f build/mps2/build.ninja || $(CMAKE) -B build/mps2 -DTMF_PORT=mps2 --toolchain $(CURDIR)/firmware/ports/mps2/toolchain.cmake >/dev/null
	@test -f build/host/build.ninja || $(CMAKE) -B build/host -DTMF_PORT=host >/dev/null
	@test -f build/sanitize/build.ninja || $(CMAKE) -B build/sanitize -DTMF_PORT=host -DTMF_SANITIZE=ON >/dev/null
	@for port in mps2 host sanitize; do $(call build,build/$$port); done

# The plugin's interface has a number for each QEMU; what it uses is the same in all of them.
build/qemu/libtmf_count.so: emulation/qemu/count.c | packages
	@mkdir -p $(@D)
	@major=$$(qemu-system-arm --version | sed -nE '1s/.*version ([0-9]+)\..*/\1/p'); \
	api=$$((major < 6 ? 0 : major < 9 ? 1 : 2)); \
	cc -std=c11 -O2 -Wall -Wextra -Werror -D_POSIX_C_SOURCE=200809L -DPLUGIN_API=$$api -fPIC -shared \
		-fvisibility=hidden -o $@ $<

demo: setup ## TinyMetaFed on four emulated Cortex-M4F nodes, 300 rounds
	@$(RUN) experiments/demo.toml

smoke: setup ## the same, 30 seconds
	@$(RUN) experiments/smoke.toml

profile: setup ## where the time goes: eight nodes, 50 rounds
	@$(RUN) experiments/demo.toml --profile --set name=profile --set nodes.count=8 --set rounds=50

validate: setup ## the cycle model beside the manual; with COREMARK=folder beside boards too
	@$(BIN)/tinymetafed validate $(if $(COREMARK),--coremark '$(COREMARK)')

test: setup ## every test
	@$(BIN)/pytest

lint: setup ## ruff, pyright, and the C warnings of both compilers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@for port in mps2 host; do $(call build,build/$$port --clean-first); done

clean: ## remove what was built and installed here
	rm -rf build $(VENV)
