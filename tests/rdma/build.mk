# SPDX-License-Identifier: MIT
#
# Programs that talk to a weft-target over RDMA, for guests: tests/rdma/NAME.cc -> $(BUILD)/tests/NAME

RDMA_TOOLS := $(patsubst tests/rdma/%.cc,$(BUILD)/tests/%,$(wildcard tests/rdma/*.cc))
TEST_TOOLS += $(RDMA_TOOLS)
test-tools: $(RDMA_TOOLS)

$(BUILD)/obj/tests/rdma/%.o: tests/rdma/%.cc | deps-check
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(ALL_CXXFLAGS) -MMD -MP -c $< -o $@

$(RDMA_TOOLS): $(BUILD)/tests/%: $(BUILD)/obj/tests/rdma/%.o $(call archives,rdma)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $@ $< -Wl,--as-needed $(call links,rdma)
