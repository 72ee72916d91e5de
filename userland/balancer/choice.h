// SPDX-License-Identifier: MIT
//
// The policy that was chosen for this host, as it outlives a reboot: DIR/choice.toml, beside it a copy of the
// BPF object when it is not one that ships. `weftctl balancer set` writes it, weftd reads it.
//   choice.toml: policy = "p2c_latency"                          a name that ships
//            or: object = "policy-1f3a.bpf.o"                    a file in DIR
//                from = "/root/mine.bpf.o"                       where it came from, for people
// Each change is whole: what a crash leaves is the old choice or the new one. Not thread-safe; writers hold
// BpfHost::Lock().
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "userland/base/status.h"

namespace weft::balancer {

inline constexpr const char* kChoiceDir = "/var/lib/weft/balancer";
inline constexpr size_t kObjectBytesMax = 16 << 20;  // of a BPF object

struct Choice {
  std::string policy;             // a name that ships; empty: the object
  std::vector<std::byte> object;  // the ELF file
  std::string from;               // its path when it was chosen
};

// A BPF object from a file. Errors name it; EFBIG: larger than kObjectBytesMax.
Result<std::vector<std::byte>> ReadObject(const std::string& path);

// The choice that a person's words make: the name of a policy that ships (ENOENT lists them) or, with a '/', the
// path of a BPF object.
Result<Choice> MakeChoice(const std::string& policy);

class ChoiceStore {
 public:
  explicit ChoiceStore(std::string dir) : dir_(std::move(dir)) {}

  Status Save(const Choice& choice);
  // ENOENT: none was ever made. EINVAL: the file is damaged.
  Result<Choice> Load() const;

 private:
  Status WriteFile(const std::string& name, std::span<const std::byte> bytes) const;
  void RemoveObjectsBut(const std::string& kept) const;

  std::string dir_;
};

}  // namespace weft::balancer
