# SPDX-License-Identifier: MIT
LIBBPF_INCLUDE := $(BUILD)/deps/libbpf/include
LIBBPF_LIBS := $(BUILD)/deps/libbpf/lib/libbpf.a -lelf -lz
.PHONY: deps deps-check
deps deps-check:
