# SPDX-License-Identifier: MIT
#
# Test programs that run inside a guest, on any file system: they know nothing of weft's code.
#   tests/tools/NAME.cc      -> $(BUILD)/tests/NAME
#   tests/tools/NAME/*.cc    -> $(BUILD)/tests/NAME
# A folder or file whose name ends in _test is a GoogleTest program.

TOOL_FILES   := $(filter-out %_lib.cc,$(wildcard tests/tools/*.cc))
TOOL_FOLDERS := $(patsubst tests/tools/%/,%,$(dir $(wildcard tests/tools/*/main.cc)))
TEST_TOOLS   := $(TOOL_FILES:tests/tools/%.cc=$(BUILD)/tests/%) $(TOOL_FOLDERS:%=$(BUILD)/tests/%)

TOOL_CXXFLAGS = -std=c++20 $(WARN) $(CXXFLAGS) -I.
tool_libs = $(if $(filter %_test,$(1)),-lgtest) -pthread

$(BUILD)/obj/tests/tools/%.o: tests/tools/%.cc | deps-check
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(TOOL_CXXFLAGS) -MMD -MP -c $< -o $@

define tool_rules
$(BUILD)/tests/$(1): $(2:%.cc=$(BUILD)/obj/%.o)
	$$(call say,LINK,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CXX) $$(CXXFLAGS) -o $$@ $$^ $$(call tool_libs,$(1))
endef
$(foreach f,$(TOOL_FILES),$(eval $(call tool_rules,$(basename $(notdir $(f))),$(f))))
$(foreach d,$(TOOL_FOLDERS),$(eval $(call tool_rules,$(d),$(wildcard tests/tools/$(d)/*.cc))))

.PHONY: test-tools
test-tools: $(TEST_TOOLS)  ## build the programs that the guest scenarios run

-include $(shell find $(BUILD)/obj/tests -name '*.d' 2>/dev/null)
