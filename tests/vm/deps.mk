# SPDX-License-Identifier: MIT
#
# What the project needs from the machine: packages of Debian 12 (installed), the kernel of the
# guests, libbpf and a QEMU (unpacked or built below $(BUILD)). `make deps` brings all of it; every build
# starts with deps-check, which costs nothing once all is there.

DEPS_PACKAGES := \
	make gcc g++ pkg-config ccache python3 ca-certificates git \
	libthrift-dev thrift-compiler libboost-program-options-dev libspdlog-dev libfmt-dev libtomlplusplus-dev \
	nlohmann-json3-dev libssl-dev libsystemd-dev librocksdb-dev liburing-dev libisal-dev libgtest-dev libgmock-dev \
	libibverbs-dev librdmacm-dev ibverbs-providers ibverbs-utils rdmacm-utils perftest libnvme-dev nvme-cli \
	clang llvm dwarves libelf-dev zlib1g-dev bc xz-utils zstd \
	clang-format clang-tidy shellcheck sparse \
	qemu-system-x86 busybox-static cpio iproute2 kmod e2fsprogs xfsprogs dropbear-bin jq fio attr acl strace procps \
	bindfs dmsetup gdb

DEPS_DONE := $(BUILD)/deps/.packages
KERNEL_DONE := $(BUILD)/kernel/.done
LIBBPF_DONE := $(BUILD)/deps/.done
QEMU_DONE := $(BUILD)/deps/qemu/.done
KERNEL_HEADERS = $(abspath $(BUILD)/kernel/headers)
BPFTOOL := $(BUILD)/deps/bin/bpftool
CHECKPATCH := $(BUILD)/deps/source/scripts/checkpatch.pl

LIBBPF_INCLUDE := $(BUILD)/deps/libbpf/include
LIBBPF_LIBS := $(BUILD)/deps/libbpf/lib/libbpf.a -lelf -lz

.PHONY: deps deps-check
deps:  ## install and unpack all that building and testing needs (apt, with sudo)
	$(Q)tests/vm/deps.sh $(DEPS_DONE) $(DEPS_PACKAGES)
	$(Q)tests/vm/kernel.sh $(BUILD)/kernel
	$(Q)$(without_make) tests/vm/libbpf.sh $(BUILD)/deps
	$(Q)tests/vm/qemu.sh $(BUILD)/deps/qemu

deps-check: $(DEPS_DONE) $(KERNEL_DONE) $(LIBBPF_DONE) $(QEMU_DONE)

# These scripts run a make of their own, which is no part of this one.
without_make := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL

$(DEPS_DONE): tests/vm/deps.mk tests/vm/deps.sh
	$(Q)tests/vm/deps.sh $@ $(DEPS_PACKAGES)
$(KERNEL_DONE): | $(DEPS_DONE)
	$(Q)tests/vm/kernel.sh $(BUILD)/kernel
$(LIBBPF_DONE): | $(DEPS_DONE)
	$(Q)$(without_make) tests/vm/libbpf.sh $(BUILD)/deps
$(QEMU_DONE): | $(DEPS_DONE)
	$(Q)tests/vm/qemu.sh $(BUILD)/deps/qemu
