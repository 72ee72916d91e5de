# SPDX-License-Identifier: MIT
# Compiles what thrift generated; run by rules.mk once the files exist.
Q := $(if $(V),,@)
SRC := $(wildcard $(BUILD)/gen/thrift-gen/*.cpp)
OBJ := $(SRC:$(BUILD)/gen/%.cpp=$(BUILD)/obj/gen/%.o)
$(BUILD)/lib/libidl.a: $(OBJ)
	$(Q)mkdir -p $(@D) && rm -f $@ && ar rcs $@ $^
$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.cpp
	$(if $(V),,@printf '  %-8s %s\n' CXX $(notdir $<))
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) -std=c++20 -O1 -g1 -w -I$(BUILD)/gen -I$(BUILD)/gen/thrift-gen -c $< -o $@
