# SPDX-License-Identifier: MIT
#
# tests/kmod/*.cc -> $(BUILD)/tests/channel_test: tests of /dev/weft and the pool disk. It is an agent with
# its metadata server and targets in memory, so it needs nothing but weft.ko:
#
#   tests/vm/run --bare --module build/kmod/weft.ko -- build/tests/channel_test

CHANNEL_TEST := $(BUILD)/tests/channel_test
CHANNEL_TEST_OBJECTS := $(patsubst %.cc,$(BUILD)/obj/%.o,$(wildcard tests/kmod/*.cc))

$(BUILD)/obj/tests/kmod/%.o: tests/kmod/%.cc | deps-check
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) -std=c++20 $(WARN) $(CXXFLAGS) -I. -MMD -MP -c $< -o $@

$(CHANNEL_TEST): $(CHANNEL_TEST_OBJECTS)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $@ $^ -pthread

test-tools: $(CHANNEL_TEST)
