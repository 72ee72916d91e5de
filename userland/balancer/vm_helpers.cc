// SPDX-License-Identifier: MIT
#include "userland/balancer/vm_helpers.h"

#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "userland/balancer/vm.h"

namespace weft::balancer {
namespace {

struct Helper {
  int32_t id;
  std::string_view name;
};

constexpr std::array kHelpers = {
    Helper{BPF_FUNC_map_lookup_elem, "map_lookup_elem"},
    Helper{BPF_FUNC_map_update_elem, "map_update_elem"},
    Helper{BPF_FUNC_map_delete_elem, "map_delete_elem"},
    Helper{BPF_FUNC_map_lookup_percpu_elem, "map_lookup_percpu_elem"},
    Helper{BPF_FUNC_probe_read_kernel, "probe_read_kernel"},
    Helper{BPF_FUNC_ktime_get_ns, "ktime_get_ns"},
    Helper{BPF_FUNC_ktime_get_boot_ns, "ktime_get_boot_ns"},
    Helper{BPF_FUNC_ktime_get_coarse_ns, "ktime_get_coarse_ns"},
    Helper{BPF_FUNC_jiffies64, "jiffies64"},
    Helper{BPF_FUNC_get_prandom_u32, "get_prandom_u32"},
    Helper{BPF_FUNC_get_smp_processor_id, "get_smp_processor_id"},
    Helper{BPF_FUNC_get_numa_node_id, "get_numa_node_id"},
    Helper{BPF_FUNC_trace_printk, "trace_printk"},
    Helper{BPF_FUNC_trace_vprintk, "trace_vprintk"},
};

constexpr uint64_t kNsPerJiffy = 4'000'000;

}  // namespace

bool IsVmHelper(int32_t id) { return std::ranges::find(kHelpers, id, &Helper::id) != kHelpers.end(); }

std::string VmHelperNames() {
  std::string names;
  for (const Helper& helper : kHelpers) {
    if (!names.empty()) names += ", ";
    names += helper.name;
  }
  return names;
}

Status Vm::CallHelper(int32_t id) {
  switch (id) {
    case BPF_FUNC_map_lookup_elem:
    case BPF_FUNC_map_update_elem:
    case BPF_FUNC_map_delete_elem:
    case BPF_FUNC_map_lookup_percpu_elem:
      return MapHelper(id);
    case BPF_FUNC_probe_read_kernel:
      return ProbeRead();
    case BPF_FUNC_ktime_get_ns:
    case BPF_FUNC_ktime_get_boot_ns:
    case BPF_FUNC_ktime_get_coarse_ns:
      r_[0] = host_->NowNs();
      return {};
    case BPF_FUNC_jiffies64:
      r_[0] = host_->NowNs() / kNsPerJiffy;
      return {};
    case BPF_FUNC_get_prandom_u32:
      r_[0] = host_->Random();
      return {};
    default:  // there is one CPU, one node, and nobody reads the kernel's log
      r_[0] = 0;
      return {};
  }
}

Status Vm::MapHelper(int32_t id) {
  uint64_t index = r_[1] - kVmMapHandles;
  if (r_[1] < kVmMapHandles || index >= program_->maps.size()) return Illegal("r1 is not a map");
  VmMap* map = program_->maps[index].get();
  const std::byte* key = memory_->At(r_[2], map->spec().key_size, VmMemory::kRead);
  if (key == nullptr) return IllegalAccess(r_[2], map->spec().key_size);
  std::span<const std::byte> key_bytes(key, map->spec().key_size);
  if (id == BPF_FUNC_map_delete_elem) {
    r_[0] = static_cast<uint64_t>(map->Delete(key_bytes));
  } else if (id == BPF_FUNC_map_update_elem) {
    const std::byte* value = memory_->At(r_[3], map->spec().value_size, VmMemory::kRead);
    if (value == nullptr) return IllegalAccess(r_[3], map->spec().value_size);
    r_[0] = static_cast<uint64_t>(map->Update(key_bytes, {value, map->spec().value_size}, r_[4]));
  } else {
    bool no_such_cpu = id == BPF_FUNC_map_lookup_percpu_elem && static_cast<uint32_t>(r_[3]) != 0;
    r_[0] = no_such_cpu ? 0 : map->Lookup(key_bytes);
  }
  return {};
}

// Reads from anywhere are its purpose: what cannot be read is an answer, as in the kernel.
Status Vm::ProbeRead() {
  uint64_t size = static_cast<uint32_t>(r_[2]);
  std::byte* to = memory_->At(r_[1], size, VmMemory::kWrite);
  if (to == nullptr) return IllegalAccess(r_[1], size);
  const std::byte* from = memory_->At(r_[3], size, VmMemory::kRead);
  if (from != nullptr) {
    memmove(to, from, size);
  } else {
    memset(to, 0, size);
  }
  r_[0] = from != nullptr ? 0 : static_cast<uint64_t>(int64_t{-EFAULT});
  return {};
}

Status Vm::CallKfunc() {
  uint64_t size = static_cast<uint32_t>(r_[3]);
  std::byte* stat = memory_->At(r_[2], size, VmMemory::kWrite);
  if (stat == nullptr) return IllegalAccess(r_[2], size);
  r_[0] = static_cast<uint64_t>(int64_t{host_->TargetStat(static_cast<uint32_t>(r_[1]), {stat, size})});
  return {};
}

}  // namespace weft::balancer
