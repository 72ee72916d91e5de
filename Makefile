# SPDX-License-Identifier: MIT
#
# weftfs: the only entry for building, testing and trying the project.
# `make help` lists what it can do. V=1 shows the commands.

MAKEFLAGS += --no-print-directory --no-builtin-rules
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

BUILD := build
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-8s %s\n' $(1) $(2))

include tests/vm/deps.mk
include bpf/rules.mk
include userland/rules.mk
include tests/tools/build.mk
include tests/rdma/build.mk
include tests/kmod/build.mk
include tests/store/build.mk
include tests/bpf/build.mk

.PHONY: all kmod unit test test-all demo bench lint clean help

all: userland kmod bpf test-tools  ## build everything: programs, BPF objects, kernel module

KMOD := $(BUILD)/kmod/weft.ko
kmod: $(KMOD)  ## build the kernel module for the guests' kernel
$(KMOD): $(wildcard kmod/*.[ch] kmod/uapi/*.h) kmod/Kbuild kmod/Makefile kmod/. | deps-check
	$(call say,KMOD,$@)
	$(Q)$(MAKE) -C kmod KDIR=$(KERNEL_HEADERS) OUT=$(abspath $(@D)) V=$(V)

unit: $(UNIT_TESTS)  ## run the unit tests
	$(Q)tests/run-tests --unit $(TESTS)

test: all  ## run unit tests, and the main scenarios in guests (TESTS="NAME..." picks others; tests/run-tests tells more)
	$(Q)tests/run-tests $(TESTS)

test-all: all  ## the same with all scenarios in all their forms, and larger amounts: hours
	$(Q)tests/run-tests --all $(TESTS)

demo: programs kmod test-tools  ## boot a cluster, mount it and watch files travel
	$(Q)tests/demo/run

bench: programs kmod test-tools  ## measure, beside the numbers of the same machine without weftfs
	$(Q)tests/bench/run

lint: | deps-check  ## check the style of every file
	$(Q)tests/lint

clean:  ## remove what was built; the unpacked kernel and libbpf stay
	$(Q)rm -rf $(filter-out $(BUILD)/kernel $(BUILD)/deps,$(wildcard $(BUILD)/*))

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' Makefile tests/vm/deps.mk userland/rules.mk bpf/rules.mk tests/tools/build.mk | sort | expand -t 12
