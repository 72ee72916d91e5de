# SPDX-License-Identifier: MIT
#
# weftfs: the only entry for building, testing and trying the project.
# `make help` lists what it can do.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

BUILD := build
include tests/vm/deps.mk
include userland/rules.mk

.PHONY: all kmod test unit demo bench lint deps clean help

all: userland kmod  ## build everything: programs, BPF objects, kernel module
