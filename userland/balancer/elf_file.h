// SPDX-License-Identifier: MIT
//
// The sections, symbols and relocations of an ELF object for BPF, checked: every offset and index that is
// handed out is within what it points into. Owns nothing but libelf's handle: the bytes must outlive it.
// One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "userland/base/status.h"

struct Elf;

namespace weft::balancer {

struct ElfSection {
  size_t index = 0;
  std::string name;
  std::span<const std::byte> bytes;  // empty for .bss
  uint64_t size = 0;
  bool is_code = false;
  bool is_data = false;  // global variables: .data, .rodata, .bss and their kin
  bool is_writable = false;
};

struct ElfSymbol {
  std::string name;
  size_t section = 0;  // 0: not of this object
  uint64_t value = 0;  // bytes into the section
};

struct ElfRelocation {
  uint64_t offset = 0;  // bytes into the section
  uint32_t type = 0;    // R_BPF_*
  const ElfSymbol* symbol = nullptr;
};

class ElfFile {
 public:
  static constexpr size_t kSectionsMax = 1024;
  static constexpr size_t kSymbolsMax = 65536;
  static constexpr uint64_t kDataBytesMax = 16 << 20;  // of one section

  static Result<std::unique_ptr<ElfFile>> Open(std::span<const std::byte> bytes);
  ~ElfFile();
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;

  const std::vector<ElfSection>& sections() const { return sections_; }
  const ElfSection* Find(std::string_view name) const;
  // Of the section with that index; those of unknown symbols are refused.
  Result<std::vector<ElfRelocation>> Relocations(size_t section) const;

 private:
  ElfFile() = default;
  Status Read(std::span<const std::byte> bytes);
  Status ReadSections();
  Status ReadSymbols();

  Elf* elf_ = nullptr;
  std::vector<ElfSection> sections_;
  std::vector<ElfSymbol> symbols_;
};

}  // namespace weft::balancer
