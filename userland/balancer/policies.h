// SPDX-License-Identifier: MIT
//
// The policies that ship with weftfs. To add one: write bpf/NAME.bpf.c (bpf/template.bpf.c is the beginning)
// and add one line to the table in policies.cc. Constant data; use from any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace weft::balancer {

// The module's own policy, in force when no program is attached.
inline constexpr std::string_view kBuiltinPolicy = "round_robin";

struct Policy {
  std::string_view name;     // as in weft_balancer_ops.name
  std::string_view summary;  // one line for people
  // The BPF object (ELF), linked into this program; null: built into the module.
  std::span<const std::byte> (*object)();
};

std::span<const Policy> ShippedPolicies();
// Null when there is none of that name.
const Policy* FindPolicy(std::string_view name);
// "round_robin, p2c_latency"
std::string PolicyNames();

}  // namespace weft::balancer
