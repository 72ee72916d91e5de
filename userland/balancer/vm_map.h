// SPDX-License-Identifier: MIT
//
// A BPF map in the simulator: arrays and hashes as the kernel's bpf(2) describes them. There is one CPU, so a
// map for each CPU is a map. Keys and values are raw bytes. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "userland/balancer/vm_memory.h"
#include "userland/base/status.h"

namespace weft::balancer {

struct VmMapSpec {
  std::string name;
  uint32_t type = 0;  // BPF_MAP_TYPE_*
  uint32_t key_size = 0;
  uint32_t value_size = 0;
  uint32_t max_entries = 0;
};

class VmMap {
 public:
  static constexpr uint64_t kBytesMax = 64 << 20;  // of the values of one map

  // EINVAL names the map and what the simulator cannot do. `memory` must outlive the map.
  static Result<std::unique_ptr<VmMap>> Create(VmMapSpec spec, VmMemory* memory);

  const VmMapSpec& spec() const { return spec_; }
  // The program's address of the value; 0: none.
  uint64_t Lookup(std::span<const std::byte> key);
  // 0 or -errno, as the helpers answer. flags: BPF_ANY, _NOEXIST, _EXIST.
  int64_t Update(std::span<const std::byte> key, std::span<const std::byte> value, uint64_t flags);
  int64_t Delete(std::span<const std::byte> key);

 private:
  explicit VmMap(VmMapSpec spec);
  bool is_array() const;
  bool is_lru() const;
  // The slot of a key that is there; kNone: it is not.
  size_t Find(std::span<const std::byte> key) const;
  // The slot of a key that is used now.
  size_t Use(std::span<const std::byte> key);
  // A slot for a new key; kNone: the map is full.
  size_t Take(std::span<const std::byte> key);
  static constexpr size_t kNone = ~size_t{0};
  struct Entry {
    size_t slot;
    std::list<std::string>::iterator age;  // in order_
  };

  VmMapSpec spec_;
  size_t stride_;
  std::vector<std::byte> values_;
  uint64_t address_ = 0;
  // of hashes
  std::unordered_map<std::string, Entry> entries_;
  std::list<std::string> order_;  // keys, the one that was not used for longest first: an LRU map gives it up
  std::vector<size_t> free_;
};

}  // namespace weft::balancer
