# make demo    sets up what is missing, then runs TinyMetaFed on four emulated nodes
# make test    sets up what is missing, then runs every test
# make help    the rest
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV ?= .venv
# Of the demo: what runs the nodes, and what they run.
BACKEND ?= qemu
FIRMWARE ?= bare
BOARD ?= mps2_an386
PYTHON ?= python3
# A path to here may have blanks, at which make's own functions would cut it.
BIN := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin
RUN := "$(BIN)/tinymetafed" run
# Of the virtual environment is the zcbor with which the firmware is built.
CMAKE := PATH="$(BIN):$$PATH" cmake
PIP := PATH="$(BIN):$$PATH" "$(BIN)/python" -m pip install --quiet --disable-pip-version-check
# Builds what is compiled, too. An environment that pip makes for that would take its zcbor along when it ends.
INSTALL := $(PIP) --no-build-isolation -e
# What tests need is installed with the rest, where they are asked for: pip takes a while each time.
DEV := $(if $(filter test fuzz torture robot lint dist,$(MAKECMDGOALS)),dev)
# Bytecode is kept whatever the shell says: tests start the command line hundreds of times.
export PYTHONDONTWRITEBYTECODE :=
# What a build says is shown when it fails.
build = $(CMAKE) --build $(1) >build/build.log 2>&1 || { cat build/build.log; exit 1; }

.PHONY: help setup packages firmware zephyr zephyr-workspace zephyr-images renode demo smoke paper claims validate test fuzz torture robot lint profile bench dist docs clean

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: packages $(VENV)/.installed firmware ## install and build what is missing

packages:
	@PYTHON=$(PYTHON) bash emulation/packages.sh

$(VENV)/.installed: pyproject.toml | packages
	@echo "Installing the Python packages into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; give another one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x "$(BIN)/python" || $(PYTHON) -m venv $(VENV)
	@"$(BIN)/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | $(PIP) -r /dev/stdin
	@$(INSTALL) '.[report$(DEV:%=,%)]'
	@touch $@ $(DEV:%=$(VENV)/.%)

$(VENV)/.dev: pyproject.toml | $(VENV)/.installed
	@test $@ -nt $< || { \
		echo "Installing what tests need into $(VENV)"; \
		$(INSTALL) '.[dev]'; \
		touch $@; \
	}

# Zephyr: the workspace of ZEPHYR_BASE, or one that west fetches. Boards by the name of their build.
ZEPHYR_BOARDS := mps2_an386=mps2/an386 nrf52840dk=nrf52840dk/nrf52840 arduino_nano_33_ble=arduino_nano_33_ble mps2_an521=mps2/an521/cpu0
ZEPHYR_WORKSPACE := $(CURDIR)/build/zephyr-workspace
ifeq ($(ZEPHYR_BASE),)
ZEPHYR_BASE := $(if $(wildcard build/zephyr-workspace/zephyr),$(ZEPHYR_WORKSPACE)/zephyr)
endif
export ZEPHYR_BASE
export ZEPHYR_TOOLCHAIN_VARIANT ?= gnuarmemb
export GNUARMEMB_TOOLCHAIN_PATH ?= $(patsubst %/bin/arm-none-eabi-gcc,%,$(shell command -v arm-none-eabi-gcc))

firmware: $(VENV)/.installed | packages ## build what changed of the firmware: for the nodes, for the host, with sanitizers
	@mkdir -p build
	@$(CMAKE) -G Ninja -S . -B build >build/build.log 2>&1 || { cat build/build.log; exit 1; }
	@$(call build,build)
	@if [ -n "$(ZEPHYR_BASE)" ]; then $(MAKE) --no-print-directory zephyr-images; fi

zephyr: $(if $(ZEPHYR_BASE),,zephyr-workspace) ## the firmware on Zephyr, for an MPS2 and two boards with an nRF52840
	@$(MAKE) --no-print-directory setup

zephyr-workspace: $(VENV)/.zephyr
	@mkdir -p "$(ZEPHYR_WORKSPACE)/manifest"
	@cp firmware/ports/zephyr/west.yml "$(ZEPHYR_WORKSPACE)/manifest"
	@cd "$(ZEPHYR_WORKSPACE)" && { test -d .west || "$(BIN)/west" init -l manifest; } && "$(BIN)/west" update --narrow -o=--depth=1

zephyr-images: $(VENV)/.zephyr
	@for board in $(ZEPHYR_BOARDS); do \
		folder=build/zephyr/$${board%%=*}; \
		test -f $$folder/build.ninja || $(CMAKE) -G Ninja -S firmware/ports/zephyr -B $$folder -DBOARD=$${board#*=} >build/build.log 2>&1 || { cat build/build.log; exit 1; }; \
		$(call build,$$folder); \
	done

$(VENV)/.zephyr: pyproject.toml | $(VENV)/.installed
	@echo "Installing what Zephyr's build needs into $(VENV)"
	@$(INSTALL) '.[zephyr]'
	@touch $@

# Renode's release, by renode-run, which has a virtual environment of its own for what it needs.
RENODE_RUN ?= git+https://github.com/antmicro/renode-run@898ff4f316f10d800c4cc8d4e1582d55f5faa4ad
RENODE_VERSION := 1.16.1
RENODE_PACKAGE ?= https://github.com/renode/renode/releases/download/v$(RENODE_VERSION)/renode-$(RENODE_VERSION).linux-portable-dotnet.tar.gz

renode: build/renode/renode ## Renode, for nodes on it, into build/

build/renode/renode: build/renode-run/bin/renode-run
	@echo "Fetching $(RENODE_PACKAGE)"
	@$< -a build/renode-run install '$(RENODE_PACKAGE)' --version-override $(RENODE_VERSION) --direct --path $(@D) >build/build.log 2>&1 \
		|| { tail -n 1 build/build.log; echo "Where it cannot be had, give a file: make renode RENODE_PACKAGE=FILE" >&2; exit 1; }

build/renode-run/bin/renode-run:
	@$(PYTHON) -m venv build/renode-run
	@build/renode-run/bin/pip install --quiet --disable-pip-version-check '$(RENODE_RUN)'

demo: setup ## TinyMetaFed on four emulated Cortex-M4F nodes, 300 rounds
	@$(RUN) experiments/demo.toml --set nodes.backend=$(BACKEND) --set nodes.firmware=$(FIRMWARE) --set nodes.board=$(BOARD)

smoke: setup ## the same, 30 seconds
	@$(RUN) experiments/smoke.toml

paper: setup ## strategies on sine, Omniglot and spoken digits, and their report
	@"$(BIN)/tinymetafed" compare experiments/paper.toml --report report.html --figures figures

# Their tables are pages of the documentation; docs/claims.md and docs/privacy.md say what they mean.
claims: setup $(VENV)/.dev ## what TinyMetaFed claims, and what updates tell of samples: tables into docs/, 40 minutes
	@mkdir -p build/claims
	@for one in claims-communication claims-stability claims-heterogeneity; do \
		"$(BIN)/tinymetafed" compare experiments/$$one.toml --markdown docs/$$one.md --json build/claims/$$one.json; \
	done
	@"$(BIN)/python" docs/claims.py build/claims docs/claims.md
	@"$(BIN)/tinymetafed" compare experiments/privacy.toml
	@"$(BIN)/tinymetafed" invert privacy --percent 1,10,100 --markdown docs/privacy-one.md
	@"$(BIN)/tinymetafed" invert privacy --percent 100 --samples 4 --markdown docs/privacy-four.md
	@"$(BIN)/tinymetafed" invert privacy --percent 10 --values int8 --markdown docs/privacy-int8.md

profile: setup ## where the time goes: eight nodes, 50 rounds
	@$(RUN) experiments/demo.toml --profile --set name=profile --set nodes.count=8 --set rounds=50

bench: setup ## how fast it is on this machine: kernels, link, rounds, many nodes; two minutes
	@"$(BIN)/tinymetafed" bench --json build/bench.json --figures build/bench

validate: setup ## cycles and energy beside the manual and boards; COREMARK=folder and PROGRAMS=folder run these too
	@"$(BIN)/tinymetafed" validate $(if $(COREMARK),--coremark '$(COREMARK)') $(if $(PROGRAMS),--programs '$(PROGRAMS)')

test: setup $(VENV)/.dev ## every test, a file on each processor
	@"$(BIN)/pytest" -n auto --dist loadfile

fuzz: setup $(VENV)/.dev ## the firmware's core under libFuzzer, two minutes; needs clang
	@"$(BIN)/python" tests/fuzzing.py $(FUZZ)

torture: setup $(VENV)/.dev ## links, nodes and orchestrators that fail, five minutes; TORTURE='--minutes 60 --seed 2'
	@"$(BIN)/python" tests/torture.py $(TORTURE)

robot: setup $(VENV)/.dev ## scenarios in Robot Framework, on QEMU and, where there is one, on Renode
	@PATH="$(BIN):$$PATH" bash robot_tests/run.sh

lint: setup $(VENV)/.dev ## ruff, pyright, and the C warnings of both compilers
	@"$(BIN)/ruff" check . && "$(BIN)/ruff" format --check .
	@"$(BIN)/pyright" --pythonpath "$(BIN)/python"
	@for port in mps2 host; do $(call build,build/$$port --clean-first); done

dist: setup $(VENV)/.dev ## wheel and sdist into dist/, and the proof that they work where there is no compiler
	@"$(BIN)/python" tests/distributing.py $(PYTHONS)

docs: $(VENV)/.docs ## the documentation as a site, into build/site
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build --strict --quiet && echo "Open build/site/index.html"

$(VENV)/.docs: pyproject.toml | $(VENV)/.installed
	@echo "Installing what the documentation needs into $(VENV)"
	@$(INSTALL) '.[docs]'
	@touch $@

clean: ## remove what was built and installed here
	rm -rf build dist $(VENV)
