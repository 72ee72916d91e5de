// SPDX-License-Identifier: MIT
#include "userland/balancer/policies.h"

#include <array>

#include "bpf/p2c_latency.skel.h"

namespace weft::balancer {
namespace {

template <typename Skeleton>
std::span<const std::byte> Object() {
  size_t size = 0;
  const void* data = Skeleton::elf_bytes(&size);
  return {static_cast<const std::byte*>(data), size};
}

constexpr std::array kPolicies = {
    Policy{kBuiltinPolicy, "each copy in turn (built into the module)", nullptr},
    Policy{"p2c_latency", "the better of two random choices by latency and queue", Object<p2c_latency_bpf>},
};

}  // namespace

std::span<const Policy> ShippedPolicies() { return kPolicies; }

const Policy* FindPolicy(std::string_view name) {
  for (const Policy& policy : kPolicies) {
    if (policy.name == name) return &policy;
  }
  return nullptr;
}

std::string PolicyNames() {
  std::string names;
  for (const Policy& policy : kPolicies) {
    if (!names.empty()) names += ", ";
    names += policy.name;
  }
  return names;
}

}  // namespace weft::balancer
