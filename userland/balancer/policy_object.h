// SPDX-License-Identifier: MIT
//
// A policy's BPF object (ELF), made ready for the interpreter without a kernel: its functions and maps, and
// where the callbacks begin. Arguments are laid out as the object's own BTF says, so an object that was built
// against another version of kmod/balancer.h works here as it does in the kernel. The file may hold anything:
// what is wrong with it is an error. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "userland/balancer/vm.h"
#include "userland/base/status.h"

namespace weft::balancer {

// A struct as the object knows it. Without any field: the object does not use it.
struct ObjectStruct {
  struct Field {
    uint32_t offset = 0;
    uint32_t bytes = 0;
  };
  uint32_t bytes = 0;
  std::map<std::string, Field, std::less<>> fields;

  // Writes a number into a field; nothing when the object has none of that name, as CO-RE has it.
  void Put(std::span<std::byte> to, std::string_view field, uint64_t value) const;
  // The same for element `index` of an array whose elements have `stride` bytes.
  void PutElement(std::span<std::byte> to, std::string_view field, uint32_t index, uint32_t stride,
                  uint64_t value) const;
};

struct PolicyObject {
  std::string name;  // as in weft_balancer_ops.name
  VmProgram program;
  VmMemory memory;
  std::deque<std::vector<std::byte>> data;  // global variables
  // where the callbacks begin
  std::optional<size_t> pick_read;
  std::optional<size_t> pick_place;
  std::optional<size_t> io_done;
  // arguments
  ObjectStruct io;
  ObjectStruct place;
  ObjectStruct grant;
  ObjectStruct done;
  ObjectStruct stat;
};

// `name` is for errors: EINVAL says what is wrong with the object.
Result<std::unique_ptr<PolicyObject>> LoadPolicyObject(std::span<const std::byte> elf, const std::string& name);

}  // namespace weft::balancer
