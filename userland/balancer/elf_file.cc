// SPDX-License-Identifier: MIT
#include "userland/balancer/elf_file.h"

#include <gelf.h>
#include <libelf.h>
#include <linux/bpf.h>

#include <cerrno>

#ifndef EM_BPF
#define EM_BPF 247
#endif

namespace weft::balancer {
namespace {

std::string LibelfError() {
  const char* text = elf_errmsg(-1);
  return text != nullptr ? text : "malformed";
}

bool IsData(std::string_view name) {
  for (std::string_view kind : {".data", ".rodata", ".bss"}) {
    if (name == kind || (name.starts_with(kind) && name[kind.size()] == '.')) return true;
  }
  return false;
}

// libelf hands out strings of the file; one that has no end within its section is null.
std::string Text(const char* text) { return text != nullptr ? text : ""; }

}  // namespace

Result<std::unique_ptr<ElfFile>> ElfFile::Open(std::span<const std::byte> bytes) {
  std::unique_ptr<ElfFile> file(new ElfFile);
  if (Status s = file->Read(bytes); !s.ok()) return s;
  return file;
}

ElfFile::~ElfFile() {
  if (elf_ != nullptr) elf_end(elf_);
}

Status ElfFile::Read(std::span<const std::byte> bytes) {
  if (elf_version(EV_CURRENT) == EV_NONE) return Error(EINVAL, "libelf is too old");
  // libelf writes to the image only when told to update it
  elf_ = elf_memory(reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data())), bytes.size());
  GElf_Ehdr header;
  if (elf_ == nullptr || elf_kind(elf_) != ELF_K_ELF || gelf_getehdr(elf_, &header) == nullptr) {
    return Error(EINVAL, "not an ELF object");
  }
  if (gelf_getclass(elf_) != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return Error(EINVAL, "not a 64-bit little-endian ELF object");
  }
  if (header.e_machine != EM_BPF || header.e_type != ET_REL) {
    return Error(EINVAL, "not a BPF object (machine {}, type {}); compile with `clang -target bpf -c`",
                 header.e_machine, header.e_type);
  }
  if (Status s = ReadSections(); !s.ok()) return s;
  return ReadSymbols();
}

Status ElfFile::ReadSections() {
  size_t names = 0;
  size_t count = 0;
  if (elf_getshdrstrndx(elf_, &names) != 0 || elf_getshdrnum(elf_, &count) != 0) {
    return Error(EINVAL, "sections: {}", LibelfError());
  }
  if (count > kSectionsMax) return Error(EINVAL, "{} sections; {} at most", count, kSectionsMax);
  sections_.resize(count);
  for (size_t i = 1; i < count; ++i) {
    Elf_Scn* scn = elf_getscn(elf_, i);
    GElf_Shdr header;
    if (scn == nullptr || gelf_getshdr(scn, &header) == nullptr) {
      return Error(EINVAL, "section {}: {}", i, LibelfError());
    }
    ElfSection& section = sections_[i];
    section.index = i;
    section.name = Text(elf_strptr(elf_, names, header.sh_name));
    section.size = header.sh_size;
    section.is_code = header.sh_type == SHT_PROGBITS && (header.sh_flags & SHF_EXECINSTR);
    section.is_data = IsData(section.name) && (header.sh_type == SHT_PROGBITS || header.sh_type == SHT_NOBITS);
    section.is_writable = header.sh_flags & SHF_WRITE;
    if (section.is_data && section.size > kDataBytesMax) {
      return Error(EINVAL, "section {} has {} bytes; {} at most", section.name, section.size, kDataBytesMax);
    }
    if (header.sh_type == SHT_NOBITS || header.sh_size == 0) continue;
    Elf_Data* data = elf_rawdata(scn, nullptr);
    if (data == nullptr || data->d_buf == nullptr || data->d_size != header.sh_size) {
      return Error(EINVAL, "section {} is not all there: {}", section.name, LibelfError());
    }
    section.bytes = {static_cast<const std::byte*>(data->d_buf), data->d_size};
  }
  return {};
}

Status ElfFile::ReadSymbols() {
  for (size_t i = 1; i < sections_.size(); ++i) {
    Elf_Scn* scn = elf_getscn(elf_, i);
    GElf_Shdr header;
    if (gelf_getshdr(scn, &header) == nullptr || header.sh_type != SHT_SYMTAB) continue;
    Elf_Data* data = elf_getdata(scn, nullptr);
    if (data == nullptr || !symbols_.empty()) return Error(EINVAL, "the table of symbols cannot be read");
    size_t count = data->d_size / sizeof(Elf64_Sym);
    if (count > kSymbolsMax) return Error(EINVAL, "{} symbols; {} at most", count, kSymbolsMax);
    for (size_t s = 0; s < count; ++s) {
      GElf_Sym symbol;
      if (gelf_getsym(data, static_cast<int>(s), &symbol) == nullptr) {
        return Error(EINVAL, "symbol {}: {}", s, LibelfError());
      }
      bool known = symbol.st_shndx < sections_.size();
      symbols_.push_back({Text(elf_strptr(elf_, header.sh_link, symbol.st_name)), known ? symbol.st_shndx : size_t{0},
                          symbol.st_value});
    }
  }
  return {};
}

const ElfSection* ElfFile::Find(std::string_view name) const {
  for (const ElfSection& section : sections_) {
    if (section.name == name) return &section;
  }
  return nullptr;
}

Result<std::vector<ElfRelocation>> ElfFile::Relocations(size_t section) const {
  std::vector<ElfRelocation> relocations;
  for (size_t i = 1; i < sections_.size(); ++i) {
    Elf_Scn* scn = elf_getscn(elf_, i);
    GElf_Shdr header;
    if (gelf_getshdr(scn, &header) == nullptr || header.sh_type != SHT_REL || header.sh_info != section) continue;
    Elf_Data* data = elf_getdata(scn, nullptr);
    if (data == nullptr) return Error(EINVAL, "the relocations of {} cannot be read", sections_[section].name);
    for (size_t r = 0; r < data->d_size / sizeof(Elf64_Rel); ++r) {
      GElf_Rel rel;
      if (gelf_getrel(data, static_cast<int>(r), &rel) == nullptr || GELF_R_SYM(rel.r_info) >= symbols_.size() ||
          rel.r_offset >= sections_[section].size) {
        return Error(EINVAL, "relocation {} of {} points nowhere", r, sections_[section].name);
      }
      relocations.push_back(
          {rel.r_offset, static_cast<uint32_t>(GELF_R_TYPE(rel.r_info)), &symbols_[GELF_R_SYM(rel.r_info)]});
    }
  }
  return relocations;
}

}  // namespace weft::balancer
