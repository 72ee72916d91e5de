// SPDX-License-Identifier: MIT
#include "userland/balancer/object_btf.h"

#include <bpf/btf.h>

#include <cerrno>

#include "userland/balancer/libbpf_log.h"

namespace weft::balancer {
namespace {

constexpr int kDepthMax = 32;  // of typedefs and qualifiers

const btf_type* SkipNames(const btf* btf, uint32_t id, uint32_t* found = nullptr) {
  const btf_type* type = btf__type_by_id(btf, id);
  for (int i = 0; type != nullptr && i < kDepthMax; ++i) {
    if (found != nullptr) *found = id;
    if (!btf_is_mod(type) && !btf_is_typedef(type)) return type;
    id = type->type;
    type = btf__type_by_id(btf, id);
  }
  return nullptr;
}

// __uint(name, value) declares a member that is a pointer to an array of `value` ints.
bool UintOf(const btf* btf, const btf_member& member, uint32_t* value) {
  const btf_type* pointer = SkipNames(btf, member.type);
  if (pointer == nullptr || !btf_is_ptr(pointer)) return false;
  const btf_type* array = SkipNames(btf, pointer->type);
  if (array == nullptr || !btf_is_array(array)) return false;
  *value = btf_array(array)->nelems;
  return true;
}

// __type(name, type) declares a member that is a pointer to the type.
bool SizeOf(const btf* btf, const btf_member& member, uint32_t* bytes) {
  const btf_type* pointer = SkipNames(btf, member.type);
  if (pointer == nullptr || !btf_is_ptr(pointer)) return false;
  int64_t size = btf__resolve_size(btf, pointer->type);
  if (size <= 0 || size > UINT32_MAX) return false;
  *bytes = static_cast<uint32_t>(size);
  return true;
}

bool ReadMember(const btf* btf, const btf_member& member, VmMapSpec* spec) {
  std::string_view name = btf__name_by_offset(btf, member.name_off);
  if (name == "type") return UintOf(btf, member, &spec->type);
  if (name == "max_entries") return UintOf(btf, member, &spec->max_entries);
  if (name == "key_size") return UintOf(btf, member, &spec->key_size);
  if (name == "value_size") return UintOf(btf, member, &spec->value_size);
  if (name == "key") return SizeOf(btf, member, &spec->key_size);
  if (name == "value") return SizeOf(btf, member, &spec->value_size);
  return true;  // flags and pinning change nothing here
}

}  // namespace

Result<std::unique_ptr<ObjectBtf>> ObjectBtf::Parse(std::span<const std::byte> section) {
  LibbpfLog log;
  btf* btf = btf__new(section.data(), static_cast<uint32_t>(section.size()));
  if (btf == nullptr) return Error(EINVAL, "its type information (.BTF) is malformed{}", log.Tail());
  return std::unique_ptr<ObjectBtf>(new ObjectBtf(btf));
}

ObjectBtf::~ObjectBtf() { btf__free(btf_); }

ObjectStruct ObjectBtf::Struct(const std::string& name) const {
  ObjectStruct result;
  int32_t id = btf__find_by_name_kind(btf_, name.c_str(), BTF_KIND_STRUCT);
  const btf_type* type = id > 0 ? btf__type_by_id(btf_, static_cast<uint32_t>(id)) : nullptr;
  if (type == nullptr) return result;
  result.bytes = type->size;
  const btf_member* members = btf_members(type);
  for (uint32_t i = 0; i < btf_vlen(type); ++i) {
    int64_t bytes = btf__resolve_size(btf_, members[i].type);
    uint32_t offset = btf_member_bit_offset(type, i) / 8;
    if (bytes <= 0 || btf_member_bitfield_size(type, i) != 0 || bytes + offset > type->size) continue;
    const char* field = btf__name_by_offset(btf_, members[i].name_off);
    result.fields[field != nullptr ? field : ""] = {offset, static_cast<uint32_t>(bytes)};
  }
  return result;
}

Result<VmMapSpec> ObjectBtf::Map(const std::string& name) const {
  int32_t id = btf__find_by_name_kind(btf_, name.c_str(), BTF_KIND_VAR);
  const btf_type* variable = id > 0 ? btf__type_by_id(btf_, static_cast<uint32_t>(id)) : nullptr;
  const btf_type* type = variable != nullptr ? SkipNames(btf_, variable->type) : nullptr;
  if (type == nullptr || !btf_is_struct(type)) {
    return Error(EINVAL, "map {} is not declared in SEC(\".maps\") with __uint() and __type()", name);
  }
  VmMapSpec spec;
  spec.name = name;
  const btf_member* members = btf_members(type);
  for (uint32_t i = 0; i < btf_vlen(type); ++i) {
    if (!ReadMember(btf_, members[i], &spec)) {
      return Error(EINVAL, "map {}: member {} is neither __uint() nor __type()", name,
                   btf__name_by_offset(btf_, members[i].name_off));
    }
  }
  return spec;
}

}  // namespace weft::balancer
