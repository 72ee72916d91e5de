# SPDX-License-Identifier: MIT
#
# Programs that look into the store of a metadata server that is stopped, and at the devices of targets,
# for guests: tests/store/NAME.cc -> $(BUILD)/tests/NAME

STORE_TOOLS := $(patsubst tests/store/%.cc,$(BUILD)/tests/%,$(wildcard tests/store/*.cc))
TEST_TOOLS += $(STORE_TOOLS)
test-tools: $(STORE_TOOLS)

$(BUILD)/obj/tests/store/%.o: tests/store/%.cc $(IDL_DONE) | deps-check
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(ALL_CXXFLAGS) -MMD -MP -c $< -o $@

$(STORE_TOOLS): $(BUILD)/tests/%: $(BUILD)/obj/tests/store/%.o $(call archives,meta) $(call archives,target)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $@ $< -Wl,--as-needed $(call links,meta) $(call links,target)
