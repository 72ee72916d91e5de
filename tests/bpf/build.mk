# SPDX-License-Identifier: MIT
#
# tests/bpf/NAME.cc -> $(BUILD)/tests/NAME: programs for guests that drive the balancer.
# tests/bpf/NAME.bpf.c: policies that are wrong on purpose; bpf/rules.mk compiles them.

BALANCER_TOOLS := $(patsubst tests/bpf/%.cc,$(BUILD)/tests/%,$(wildcard tests/bpf/*.cc))
TEST_TOOLS += $(BALANCER_TOOLS)
test-tools: $(BALANCER_TOOLS)

$(BUILD)/obj/tests/bpf/%.o: tests/bpf/%.cc | deps-check
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(ALL_CXXFLAGS) -MMD -MP -c $< -o $@

$(BALANCER_TOOLS): $(BUILD)/tests/%: $(BUILD)/obj/tests/bpf/%.o $(call archives,balancer)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $@ $< -Wl,--as-needed $(call links,balancer)

# the simulator's tests run these objects
$(BUILD)/test/balancer_test: $(BPF_TEST_OBJECTS) $(BPF_OBJECTS)
