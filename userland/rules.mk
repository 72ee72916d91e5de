# SPDX-License-Identifier: MIT
#
# How C++ becomes libraries, programs and tests. One convention, no list of files:
#   DIR/*.cc            -> $(BUILD)/lib/libNAME.a   (all but the two kinds below)
#   DIR/*_main.cc       -> $(BUILD)/bin/PROGRAM     (x_main.cc makes the program named in PROGRAMS)
#   DIR/*_test.cc       -> $(BUILD)/test/NAME_test  (GoogleTest, one binary a folder)
# A library may use only the libraries in its USES_ list, and those must come earlier.

CXX      ?= g++
# Lines for backtraces; for a debugger: make CXXFLAGS='-Og -g'. Full debug information takes a fifth of the
# time to compile. Compiling the unit tests takes longer than running them.
CXXFLAGS ?= -O2 -g1
TEST_CXXFLAGS ?= -O0 -g1
CCACHE   := $(shell command -v ccache 2>/dev/null)
WARN     := -Wall -Wextra -Werror -Wno-unused-parameter
ALL_CXXFLAGS = -std=c++20 -fno-omit-frame-pointer $(WARN) $(CXXFLAGS) \
	-I. -isystem $(BUILD)/gen -I$(BUILD) -isystem $(LIBBPF_INCLUDE) -DSPDLOG_FMT_EXTERNAL -DSPDLOG_COMPILED_LIB

# name: folder, what it may use, system libraries it needs
LIBS := base idl rpc channel rdma nvmeof balancer meta target agent ctl
DIR_base     := userland/base
DIR_rpc      := userland/rpc
DIR_channel  := userland/channel
DIR_rdma     := rdma
DIR_nvmeof   := nvmeof
DIR_balancer := userland/balancer
DIR_meta     := userland/meta
DIR_target   := userland/target
DIR_agent    := userland/agent
DIR_ctl      := userland/ctl

USES_base     :=
USES_idl      :=
USES_rpc      := base idl
USES_channel  := base
USES_rdma     := base
USES_nvmeof   := base
USES_balancer := base
USES_meta     := base idl rpc
USES_target   := base idl rpc rdma
USES_agent    := base idl rpc channel rdma nvmeof balancer target
USES_ctl      := base idl rpc balancer agent meta nvmeof target

LINK_base     := -lspdlog -lfmt -ltomlplusplus -lboost_program_options -lcrypto -lsystemd
LINK_idl      := -lthrift
LINK_rdma     := -libverbs -lrdmacm
LINK_nvmeof   := -lnvme
LINK_balancer := $(LIBBPF_LIBS)
LINK_meta     := -lrocksdb
LINK_target   := -luring -lisal

# program: the library whose folder holds NAME_main.cc (dashes become underscores)
PROGRAMS := weftd weft-meta weft-target weftctl mount.weft
OF_weftd       := agent
OF_weft-meta   := meta
OF_weft-target := target
OF_weftctl     := ctl
OF_mount.weft  := ctl

main_of = $(DIR_$(OF_$(1)))/$(subst .,_,$(subst -,_,$(1)))_main.cc
closure = $(sort $(1) $(foreach u,$(USES_$(1)),$(call closure,$(u))))
archives = $(foreach l,$(call closure,$(1)),$(BUILD)/lib/lib$(l).a)
links    = -Wl,--start-group $(call archives,$(1)) -Wl,--end-group \
	$(foreach l,$(call closure,$(1)),$(LINK_$(l))) -pthread

# --- Thrift -----------------------------------------------------------------
IDL      := $(wildcard thrift/*.thrift)
IDL_DONE := $(BUILD)/gen/.done
$(IDL_DONE): $(IDL) | deps-check
	$(call say,THRIFT,$(notdir $(IDL)))
	$(Q)rm -rf $(BUILD)/gen && mkdir -p $(BUILD)/gen/thrift-gen
	$(Q)for f in $(IDL); do thrift --gen cpp:no_skeleton -strict -I thrift -out $(BUILD)/gen/thrift-gen $$f || exit 1; done
	$(Q)touch $@ $(BUILD)/gen/thrift-gen/*

# Without a rule make would take a header for as old as it was before thrift wrote it anew.
$(BUILD)/gen/thrift-gen/%.h: $(IDL_DONE) ;

# thrift's files are known only after it ran: a second make compiles them
$(BUILD)/lib/libidl.a: $(IDL_DONE)
	$(Q)$(MAKE) -f userland/idl.mk BUILD=$(BUILD) CXX="$(CCACHE) $(CXX)" V=$(V) $@

# --- C++ --------------------------------------------------------------------
# remember: a file whose content is $(1); it changes when, and only when, the content does
OBJ = $(BUILD)/obj
define remember
	@mkdir -p $(@D) && echo '$(1)' | cmp -s - $@ || echo '$(1)' > $@
endef

# -MD and not -MMD: generated headers are among the system ones, where they raise no warnings
$(OBJ)/%.o: %.cc $(OBJ)/.flags | deps-check $(IDL_DONE) $(BPF_SKELETONS)
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CCACHE) $(CXX) $(ALL_CXXFLAGS) -MD -MP -c $< -o $@
$(OBJ)/%_test.o: private CXXFLAGS := $(TEST_CXXFLAGS)
$(OBJ)/.flags: always
	$(call remember,$(CXX) $(ALL_CXXFLAGS) $(TEST_CXXFLAGS))
.PHONY: always

define library_rules
SRC_$(1)  := $$(filter-out %_test.cc %_main.cc,$$(wildcard $$(DIR_$(1))/*.cc))
TEST_$(1) := $$(wildcard $$(DIR_$(1))/*_test.cc)
$$(BUILD)/lib/lib$(1).a: $$(SRC_$(1):%.cc=$$(OBJ)/%.o) $$(BUILD)/lib/$(1).list
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$(filter %.o,$$^)
$$(BUILD)/lib/$(1).list: always
	$$(call remember,$$(SRC_$(1)) $$(TEST_$(1)))
ifneq ($$(TEST_$(1)),)
UNIT_TESTS += $$(BUILD)/test/$(1)_test
$$(BUILD)/test/$(1)_test: $$(TEST_$(1):%.cc=$$(OBJ)/%.o) $$(call archives,$(1)) $$(BUILD)/lib/$(1).list
	$$(call say,LINK,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CXX) $$(CXXFLAGS) -o $$@ $$(TEST_$(1):%.cc=$$(OBJ)/%.o) -Wl,--as-needed $$(call links,$(1)) -lgtest_main -lgmock -lgtest -pthread
endif
endef
$(foreach l,$(filter-out idl,$(LIBS)),$(eval $(call library_rules,$(l))))

define program_rules
$$(BUILD)/bin/$(1): $$(OBJ)/$$(basename $$(call main_of,$(1))).o $$(call archives,$$(OF_$(1)))
	$$(call say,LINK,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CXX) $$(CXXFLAGS) -o $$@ $$< -Wl,--as-needed $$(call links,$$(OF_$(1)))
endef
BUILT_PROGRAMS := $(foreach p,$(PROGRAMS),$(if $(wildcard $(call main_of,$(p))),$(p)))
$(foreach p,$(BUILT_PROGRAMS),$(eval $(call program_rules,$(p))))

.PHONY: userland programs
programs: $(BUILT_PROGRAMS:%=$(BUILD)/bin/%)  ## build the programs alone
userland: programs $(UNIT_TESTS)  ## build the programs and their unit tests

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
