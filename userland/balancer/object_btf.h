// SPDX-License-Identifier: MIT
//
// What a BPF object's type information (BTF) says of structs and maps, read with libbpf's btf. One thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "userland/balancer/policy_object.h"
#include "userland/balancer/vm_map.h"
#include "userland/base/status.h"

struct btf;

namespace weft::balancer {

class ObjectBtf {
 public:
  // EINVAL: the section is malformed.
  static Result<std::unique_ptr<ObjectBtf>> Parse(std::span<const std::byte> section);
  ~ObjectBtf();
  ObjectBtf(const ObjectBtf&) = delete;
  ObjectBtf& operator=(const ObjectBtf&) = delete;

  // Without fields when the object does not know it.
  ObjectStruct Struct(const std::string& name) const;
  // The map that the variable `name` in SEC(".maps") declares.
  Result<VmMapSpec> Map(const std::string& name) const;

 private:
  explicit ObjectBtf(btf* btf) : btf_(btf) {}
  btf* const btf_;
};

}  // namespace weft::balancer
