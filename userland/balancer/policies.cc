// SPDX-License-Identifier: MIT
#include "userland/balancer/policies.h"

#include <array>

#include "bpf/least_inflight.skel.h"
#include "bpf/local_first.skel.h"
#include "bpf/p2c_latency.skel.h"
#include "bpf/weighted.skel.h"

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
    Policy{"least_inflight", "the copy with the fewest requests of this host in hand", Object<least_inflight_bpf>},
    Policy{"p2c_latency", "the better of two random choices by latency and queue", Object<p2c_latency_bpf>},
    Policy{"local_first", "a copy in this host's zone unless it is down or four times as slow",
           Object<local_first_bpf>},
    Policy{"weighted", "by chance, in proportion to the targets' weights", Object<weighted_bpf>},
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
