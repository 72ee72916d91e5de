// SPDX-License-Identifier: MIT
#include "userland/target/signature.h"

#include <cstring>

namespace weft::target {
namespace {

struct Signature {
  size_t offset;
  std::string_view bytes;
  std::string_view name;
};

// The most telling first: a partition table's 0x55aa also ends other boot sectors.
constexpr Signature kSignatures[] = {
    {0x438, "\x53\xef", "an ext2, ext3 or ext4 file system"},
    {0, "XFSB", "an XFS file system"},
    {0x10040, "_BHRfS_M", "a btrfs file system"},
    {0x218, "LVM2 001", "an LVM physical volume"},
    {0, "LUKS\xba\xbe", "a LUKS volume"},
    {0x1000, "\xfc\x4e\x2b\xa9", "a member of an md array"},
    {0xff6, "SWAPSPACE2", "swap space"},
    {0x200, "EFI PART", "a GPT partition table"},
    {0x1fe, "\x55\xaa", "a boot sector or a partition table"},
    {0, "WEFTLABL", "a damaged weft target"},
};

}  // namespace

std::string_view GuessContents(std::span<const uint8_t> head) {
  for (const Signature& s : kSignatures) {
    if (head.size() >= s.offset + s.bytes.size() && memcmp(&head[s.offset], s.bytes.data(), s.bytes.size()) == 0) {
      return s.name;
    }
  }
  return {};
}

}  // namespace weft::target
