// SPDX-License-Identifier: MIT
#include "userland/balancer/vm_map.h"

#include <linux/bpf.h>

#include <cerrno>
#include <cstring>

namespace weft::balancer {
namespace {

constexpr size_t kAlign = 8;  // of values

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool IsKnown(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_HASH:
    case BPF_MAP_TYPE_PERCPU_HASH:
    case BPF_MAP_TYPE_LRU_HASH:
    case BPF_MAP_TYPE_LRU_PERCPU_HASH:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<std::unique_ptr<VmMap>> VmMap::Create(VmMapSpec spec, VmMemory* memory) {
  if (!IsKnown(spec.type)) {
    return Error(EINVAL, "map {} is of type {}; the simulator has arrays and hashes (also per CPU, also LRU) only",
                 spec.name, spec.type);
  }
  std::unique_ptr<VmMap> map(new VmMap(std::move(spec)));
  const VmMapSpec& s = map->spec_;
  bool valid = s.key_size > 0 && s.value_size > 0 && s.max_entries > 0;
  if (!valid || (map->is_array() && s.key_size != sizeof(uint32_t)) || s.key_size > 512) {
    return Error(EINVAL, "map {} has keys of {} bytes, values of {}, {} entries: no kernel would make it", s.name,
                 s.key_size, s.value_size, s.max_entries);
  }
  if (map->stride_ * s.max_entries > kBytesMax) {
    return Error(EINVAL, "map {} is for {} values of {} bytes; the simulator allows {} MiB a map", s.name,
                 s.max_entries, s.value_size, kBytesMax >> 20);
  }
  map->values_.resize(map->stride_ * s.max_entries);
  map->address_ = memory->Map(map->values_);
  if (!map->is_array()) {
    for (size_t slot = s.max_entries; slot > 0; --slot) map->free_.push_back(slot - 1);
  }
  return map;
}

VmMap::VmMap(VmMapSpec spec)
    : spec_(std::move(spec)), stride_((size_t{spec_.value_size} + kAlign - 1) / kAlign * kAlign) {}

bool VmMap::is_array() const { return spec_.type == BPF_MAP_TYPE_ARRAY || spec_.type == BPF_MAP_TYPE_PERCPU_ARRAY; }

bool VmMap::is_lru() const { return spec_.type == BPF_MAP_TYPE_LRU_HASH || spec_.type == BPF_MAP_TYPE_LRU_PERCPU_HASH; }

size_t VmMap::Find(std::span<const std::byte> key) const {
  if (is_array()) {
    uint32_t index;
    memcpy(&index, key.data(), sizeof index);
    return index < spec_.max_entries ? index : kNone;
  }
  auto it = entries_.find(Text(key));
  return it == entries_.end() ? kNone : it->second.slot;
}

size_t VmMap::Use(std::span<const std::byte> key) {
  if (!is_lru()) return Find(key);
  auto it = entries_.find(Text(key));
  if (it == entries_.end()) return kNone;
  order_.splice(order_.end(), order_, it->second.age);
  return it->second.slot;
}

size_t VmMap::Take(std::span<const std::byte> key) {
  if (is_array()) return kNone;
  if (free_.empty() && is_lru()) {
    auto oldest = entries_.find(order_.front());
    free_.push_back(oldest->second.slot);
    entries_.erase(oldest);
    order_.pop_front();
  }
  if (free_.empty()) return kNone;
  size_t slot = free_.back();
  free_.pop_back();
  entries_.emplace(Text(key), Entry{slot, order_.insert(order_.end(), Text(key))});
  return slot;
}

uint64_t VmMap::Lookup(std::span<const std::byte> key) {
  size_t slot = Use(key);
  return slot == kNone ? 0 : address_ + slot * stride_;
}

int64_t VmMap::Update(std::span<const std::byte> key, std::span<const std::byte> value, uint64_t flags) {
  if (flags > BPF_EXIST) return -EINVAL;
  size_t slot = Use(key);
  if (slot != kNone && flags == BPF_NOEXIST) return -EEXIST;
  if (slot == kNone) {
    if (flags == BPF_EXIST) return -ENOENT;
    slot = Take(key);
    if (slot == kNone) return -E2BIG;
  }
  memcpy(values_.data() + slot * stride_, value.data(), spec_.value_size);
  return 0;
}

int64_t VmMap::Delete(std::span<const std::byte> key) {
  if (is_array()) return -EINVAL;
  auto it = entries_.find(Text(key));
  if (it == entries_.end()) return -ENOENT;
  free_.push_back(it->second.slot);
  order_.erase(it->second.age);
  entries_.erase(it);
  return 0;
}

}  // namespace weft::balancer
