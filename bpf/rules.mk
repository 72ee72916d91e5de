# SPDX-License-Identifier: MIT
#
# Every bpf/NAME.bpf.c becomes $(BUILD)/bpf/NAME.bpf.o and the skeleton $(BUILD)/bpf/NAME.skel.h, which
# programs include as "bpf/NAME.skel.h". Those of tests/bpf become objects only: tests load them by path.

BPF_SOURCES   := $(wildcard bpf/*.bpf.c)
BPF_OBJECTS   := $(BPF_SOURCES:%.c=$(BUILD)/%.o)
BPF_SKELETONS := $(BPF_SOURCES:%.bpf.c=$(BUILD)/%.skel.h)

BPF_TEST_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/bpf/*.bpf.c))

BPF_CLANG ?= clang
# clang's BPF target does not know where Debian keeps the architecture's headers
BPF_CFLAGS = -target bpf -g -O2 -mcpu=v3 -Wall -Werror -D__TARGET_ARCH_x86 -I. -isystem $(LIBBPF_INCLUDE) \
	-idirafter /usr/include/$(shell gcc -print-multiarch)

$(BUILD)/%.bpf.o: %.bpf.c | deps-check
	$(call say,BPF,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(BPF_CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -c $< -o $@

$(BUILD)/bpf/%.skel.h: $(BUILD)/bpf/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

.PHONY: bpf
bpf: $(BPF_OBJECTS) $(BPF_SKELETONS) $(BPF_TEST_OBJECTS)  ## compile the balancer policies

-include $(wildcard $(BUILD)/bpf/*.d $(BUILD)/tests/bpf/*.d)
