// SPDX-License-Identifier: MIT
//
// Contents that can be computed for any byte of any file: what was lost, moved or torn is seen without
// keeping a copy. Word i of a stream is a hash of (seed, i).
#pragma once

#include <cstdint>
#include <cstring>

namespace weft::test {

inline uint64_t PatternWord(uint64_t seed, uint64_t index) {  // splitmix64
  uint64_t z = seed * 0x9e3779b97f4a7c15ULL + (index + 1) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// The bytes [offset, offset + length) of the stream of this seed.
inline void FillPattern(uint64_t seed, uint64_t offset, uint8_t* bytes, uint64_t length) {
  for (uint64_t i = 0; i < length;) {
    uint64_t at = offset + i;
    uint64_t word = PatternWord(seed, at / 8);
    uint64_t skip = at % 8;
    uint64_t n = 8 - skip < length - i ? 8 - skip : length - i;
    memcpy(bytes + i, reinterpret_cast<uint8_t*>(&word) + skip, n);
    i += n;
  }
}

}  // namespace weft::test
