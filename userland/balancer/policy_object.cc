// SPDX-License-Identifier: MIT
#include "userland/balancer/policy_object.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>

#include "userland/balancer/elf_file.h"
#include "userland/balancer/object_btf.h"

namespace weft::balancer {
namespace {

constexpr std::string_view kOpsSection = ".struct_ops.link";
constexpr std::string_view kMapsSection = ".maps";
constexpr const char* kOpsType = "weft_balancer_ops";
constexpr const char* kKfunc = "weft_target_stat";
constexpr size_t kCodeMax = 100'000;  // instructions

// relocation types of BPF
constexpr uint32_t kLoad64 = 1;     // R_BPF_64_64: an LD_IMM64
constexpr uint32_t kAddress64 = 2;  // R_BPF_64_ABS64: 8 bytes of data
constexpr uint32_t kCall32 = 10;    // R_BPF_64_32: a call

class Loader {
 public:
  explicit Loader(const ElfFile& elf) : elf_(elf), object_(std::make_unique<PolicyObject>()) {}

  Status Load() {
    const ElfSection* types = elf_.Find(".BTF");
    if (types == nullptr) return Error(EINVAL, "it has no type information (.BTF); compile it with -g");
    Result<std::unique_ptr<ObjectBtf>> btf = ObjectBtf::Parse(types->bytes);
    if (!btf.ok()) return btf.status();
    btf_ = *std::move(btf);
    object_->io = btf_->Struct("weft_io");
    object_->place = btf_->Struct("weft_place");
    object_->grant = btf_->Struct("weft_place_grant");
    object_->done = btf_->Struct("weft_done");
    object_->stat = btf_->Struct("weft_target_stat");
    if (Status s = LoadData(); !s.ok()) return s;
    if (Status s = LoadCode(); !s.ok()) return s;
    for (const auto& [section, base] : code_at_) {
      if (Status s = RelocateCode(section, base); !s.ok()) return s;
    }
    if (Status s = Vm::Check(object_->program.code); !s.ok()) return s;
    return LoadOps();
  }

  std::unique_ptr<PolicyObject> Take() { return std::move(object_); }

 private:
  Status LoadData() {
    for (const ElfSection& section : elf_.sections()) {
      if (!section.is_data || section.size == 0) continue;
      std::vector<std::byte>& bytes = object_->data.emplace_back(section.size);
      std::ranges::copy(section.bytes, bytes.begin());
      auto most = section.is_writable ? VmMemory::kWrite : VmMemory::kRead;
      data_at_[section.index] = object_->memory.Map(bytes, most);
    }
    return {};
  }

  Status LoadCode() {
    std::vector<bpf_insn>& code = object_->program.code;
    for (const ElfSection& section : elf_.sections()) {
      if (!section.is_code || section.size == 0) continue;
      size_t count = section.bytes.size() / sizeof(bpf_insn);
      if (section.bytes.size() % sizeof(bpf_insn) != 0) {
        return Error(EINVAL, "section {} does not hold whole instructions", section.name);
      }
      if (code.size() + count > kCodeMax) return Error(EINVAL, "it has more than {} instructions", kCodeMax);
      code_at_.emplace(section.index, code.size());
      code.resize(code.size() + count);
      memcpy(code.data() + code.size() - count, section.bytes.data(), section.bytes.size());
    }
    return {};
  }

  Status RelocateCode(size_t section, size_t base) {
    Result<std::vector<ElfRelocation>> relocations = elf_.Relocations(section);
    if (!relocations.ok()) return relocations.status();
    size_t end = base + elf_.sections()[section].size / sizeof(bpf_insn);
    for (const ElfRelocation& relocation : *relocations) {
      size_t at = base + relocation.offset / sizeof(bpf_insn);
      bool is_load = relocation.type == kLoad64;
      if (relocation.offset % sizeof(bpf_insn) != 0 || at + (is_load ? 1 : 0) >= end) {
        return Error(EINVAL, "a relocation of {} lies within an instruction", elf_.sections()[section].name);
      }
      Status s;
      if (is_load) {
        s = RelocateLoad(at, *relocation.symbol);
      } else if (relocation.type == kCall32) {
        s = RelocateCall(at, *relocation.symbol);
      } else {
        s = Error(EINVAL, "instruction {}: a relocation of unknown type {}", at, relocation.type);
      }
      if (!s.ok()) return s;
    }
    return {};
  }

  Status RelocateLoad(size_t at, const ElfSymbol& symbol) {
    bpf_insn* insn = &object_->program.code[at];
    Result<uint64_t> address = AddressOf(at, symbol);
    if (!address.ok()) return address.status();
    insn[0].src_reg = 0;
    insn[0].imm = static_cast<int32_t>(*address);
    insn[1].imm = static_cast<int32_t>(*address >> 32);
    return {};
  }

  // What `symbol` is for an LD_IMM64.
  Result<uint64_t> AddressOf(size_t at, const ElfSymbol& symbol) {
    if (symbol.section == 0) return symbol.name == kKfunc ? 1 : 0;  // bpf_ksym_exists()
    if (auto data = data_at_.find(symbol.section); data != data_at_.end()) {
      return data->second + symbol.value + static_cast<uint32_t>(object_->program.code[at].imm);
    }
    if (elf_.sections()[symbol.section].name == kMapsSection) return MapHandle(symbol.name);
    return Error(EINVAL, "instruction {}: the address of {} in section {} is nothing that the simulator has", at,
                 symbol.name, elf_.sections()[symbol.section].name);
  }

  Result<uint64_t> MapHandle(const std::string& name) {
    auto [it, is_new] = map_at_.try_emplace(name, object_->program.maps.size());
    if (is_new) {
      Result<VmMapSpec> spec = btf_->Map(name);
      if (!spec.ok()) return spec.status();
      Result<std::unique_ptr<VmMap>> map = VmMap::Create(*std::move(spec), &object_->memory);
      if (!map.ok()) return map.status();
      object_->program.maps.push_back(*std::move(map));
    }
    return kVmMapHandles + it->second;
  }

  Status RelocateCall(size_t at, const ElfSymbol& symbol) {
    bpf_insn& insn = object_->program.code[at];
    if (symbol.section == 0) {
      if (symbol.name != kKfunc) {
        return Error(EINVAL, "instruction {}: it calls {}; the simulator knows the kernel function {} only", at,
                     symbol.name, kKfunc);
      }
      insn.src_reg = BPF_PSEUDO_KFUNC_CALL;
      insn.imm = kVmKfuncTargetStat;
      return {};
    }
    auto section = code_at_.find(symbol.section);
    if (section == code_at_.end()) return Error(EINVAL, "instruction {}: it calls {}, no code", at, symbol.name);
    // as compilers have it: the immediate of a call is relative to the symbol, less one
    int64_t target = static_cast<int64_t>(section->second + symbol.value / sizeof(bpf_insn)) + insn.imm + 1;
    insn.src_reg = BPF_PSEUDO_CALL;
    insn.imm = static_cast<int32_t>(target - static_cast<int64_t>(at) - 1);
    return {};
  }

  // The struct weft_balancer_ops: its name, and the functions that its relocations name.
  Status LoadOps() {
    const ElfSection* ops = elf_.Find(kOpsSection);
    ObjectStruct layout = btf_->Struct(kOpsType);
    if (ops == nullptr || layout.bytes == 0 || ops->bytes.size() != layout.bytes) {
      return Error(EINVAL, "it must hold one struct {} in SEC(\"{}\")", kOpsType, kOpsSection);
    }
    if (auto name = layout.fields.find("name"); name != layout.fields.end()) {
      const char* text = reinterpret_cast<const char*>(ops->bytes.data() + name->second.offset);
      object_->name.assign(text, strnlen(text, name->second.bytes));
    }
    if (object_->name.empty()) return Error(EINVAL, "its struct {} has no name", kOpsType);
    Result<std::vector<ElfRelocation>> relocations = elf_.Relocations(ops->index);
    if (!relocations.ok()) return relocations.status();
    for (const ElfRelocation& relocation : *relocations) {
      if (Status s = LoadCallback(layout, relocation); !s.ok()) return s;
    }
    return {};
  }

  Status LoadCallback(const ObjectStruct& layout, const ElfRelocation& relocation) {
    const ElfSymbol& symbol = *relocation.symbol;
    const std::pair<std::string_view, std::optional<size_t>*> callbacks[] = {
        {"pick_read", &object_->pick_read}, {"pick_place", &object_->pick_place}, {"io_done", &object_->io_done}};
    for (auto [name, entry] : callbacks) {
      auto field = layout.fields.find(name);
      if (field == layout.fields.end() || field->second.offset != relocation.offset) continue;
      auto section = code_at_.find(symbol.section);
      size_t at = section == code_at_.end() ? 0 : section->second + symbol.value / sizeof(bpf_insn);
      if (relocation.type != kAddress64 || section == code_at_.end() || !IsStart(at)) {
        return Error(EINVAL, "{}: {} is not a function", name, symbol.name);
      }
      *entry = at;
      return {};
    }
    return Error(EINVAL, "struct {} has no callback {} bytes into it", kOpsType, relocation.offset);
  }

  bool IsStart(size_t at) const {
    const std::vector<bpf_insn>& code = object_->program.code;
    return at < code.size() && (at == 0 || code[at - 1].code != (BPF_LD | BPF_IMM | BPF_DW));
  }

  const ElfFile& elf_;
  std::unique_ptr<ObjectBtf> btf_;
  std::unique_ptr<PolicyObject> object_;
  std::unordered_map<size_t, uint64_t> data_at_;  // section -> address
  std::map<size_t, size_t> code_at_;              // section -> its first instruction
  std::unordered_map<std::string, size_t> map_at_;
};

}  // namespace

void ObjectStruct::Put(std::span<std::byte> to, std::string_view field, uint64_t value) const {
  auto it = fields.find(field);
  if (it == fields.end()) return;
  PutElement(to, field, 0, std::min<uint32_t>(it->second.bytes, sizeof value), value);
}

void ObjectStruct::PutElement(std::span<std::byte> to, std::string_view field, uint32_t index, uint32_t stride,
                              uint64_t value) const {
  auto it = fields.find(field);
  if (it == fields.end() || stride > sizeof value) return;
  uint64_t offset = uint64_t{index} * stride;
  if (offset + stride > it->second.bytes || it->second.offset + offset + stride > to.size()) return;
  memcpy(to.data() + it->second.offset + offset, &value, stride);
}

Result<std::unique_ptr<PolicyObject>> LoadPolicyObject(std::span<const std::byte> bytes, const std::string& name) {
  std::string context = "balancer policy " + name;
  Result<std::unique_ptr<ElfFile>> elf = ElfFile::Open(bytes);
  if (!elf.ok()) return elf.status().Annotate(context);
  Loader loader(**elf);
  if (Status s = loader.Load(); !s.ok()) return s.Annotate(context);
  return loader.Take();
}

}  // namespace weft::balancer
