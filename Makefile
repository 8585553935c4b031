# SPDX-License-Identifier: GPL-2.0-only
#
# The verbs of the bench. A verb is one line; the work is in tools/ and playbooks/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin

INVENTORY ?= inventory/virtual
RUN ?= latest
ARGS ?=
BASELINE ?=
SEED ?=
OPS ?=
export INVENTORY RUN

# A misspelt variable must not be ignored in silence.
__space := $(subst ,, )
__given := $(foreach word,$(subst \$(__space),_,$(MAKEOVERRIDES)),$(firstword $(subst =, ,$(word))))
__unknown := $(filter-out INVENTORY RUN ARGS BASELINE SEED OPS,$(__given))
ifneq ($(__unknown),)
$(error unknown variable $(__unknown): make takes INVENTORY=, RUN=, BASELINE=, SEED=, OPS= and ARGS= (role variables go as ARGS="-e name=value"))
endif

.PHONY: help
help: ## list the verbs
	@echo 'Usage: make VERB [INVENTORY=inventory/virtual] [ARGS="-e name=value …"]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what this machine lacks: Debian packages, Python environment
	@tools/setup

.PHONY: qualify
qualify: setup ## everything: lab up, validate, deploy, guests, checks, report
	@tools/play qualify $(ARGS)

.PHONY: validate
validate: setup ## ask whether a run could work; changes nothing
	@tools/play validate $(ARGS)

.PHONY: deploy
deploy: setup ## build the kernel, install it, boot it once, confirm, promote
	@tools/play deploy $(ARGS)

.PHONY: rollback
rollback: setup ## return the hosts to the kernel they had
	@tools/play rollback $(ARGS)

.PHONY: report
report: setup ## judge and render a run again (RUN=run-id, default: the latest)
	@tools/play report $(ARGS)

.PHONY: bench
bench: setup ## measure memmerge beside KSM (ARGS="--size 1G --case random", BASELINE=bench-…)
	@mergelab benchmark run --baseline "$(BASELINE)" --inventory "$(INVENTORY)" $(ARGS)

.PHONY: torture
torture: setup ## merge, write, fork, swap, unload in parallel, all checked (SEED=1 OPS=100000)
	@mergelab torture --seed "$(SEED)" --ops "$(OPS)" $(ARGS)

.PHONY: lab
lab: setup ## create and start the emulated hosts
	@tools/play lab $(ARGS)

.PHONY: lab-list
lab-list: setup ## list the emulated hosts and how to reach them
	@tools/play lab-list $(ARGS)

.PHONY: lab-stop
lab-stop: setup ## shut the emulated hosts down, keep their disks
	@tools/play lab-stop $(ARGS)

.PHONY: teardown
teardown: setup ## remove the emulated hosts and all that belongs to them; the cache stays
	@tools/play teardown $(ARGS)

.PHONY: test
test: setup ## test this project: lint, then every test, the lab included
	@tools/test $(ARGS)

.PHONY: test-quick
test-quick: setup ## the same without kernels and virtual machines
	@tools/test -m 'not kernel and not lab' $(ARGS)

.PHONY: lint
lint: setup ## style, types, Ansible, YAML and shell
	@tools/lint

.PHONY: format
format: setup ## rewrite the Python files as lint wants them
	@ruff check --fix --quiet . && ruff format .
