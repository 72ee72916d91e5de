// SPDX-License-Identifier: MIT
//
// Big-endian integers and length-prefixed strings: how keys and values of the store are written. Values;
// a Reader that ran out of bytes says so at the end (ok() is false) and gives zeroes until then.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

class Writer {
 public:
  Writer& U8(uint8_t v) { return Put(v, 1); }
  Writer& U32(uint32_t v) { return Put(v, 4); }
  Writer& U64(uint64_t v) { return Put(v, 8); }
  Writer& I64(int64_t v) { return Put(static_cast<uint64_t>(v), 8); }
  Writer& Raw(std::string_view bytes) {
    bytes_.append(bytes);
    return *this;
  }
  Writer& String(std::string_view bytes) { return U32(static_cast<uint32_t>(bytes.size())).Raw(bytes); }
  std::string Take() { return std::move(bytes_); }

 private:
  Writer& Put(uint64_t v, int bytes) {
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) bytes_.push_back(static_cast<char>(v >> shift));
    return *this;
  }
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Get(1)); }
  uint32_t U32() { return static_cast<uint32_t>(Get(4)); }
  uint64_t U64() { return Get(8); }
  int64_t I64() { return static_cast<int64_t>(Get(8)); }
  std::string_view Raw(size_t n) {
    if (n > bytes_.size()) {
      ok_ = false;
      n = 0;
    }
    std::string_view raw = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return raw;
  }
  std::string_view String() { return Raw(U32()); }
  std::string_view Rest() { return Raw(bytes_.size()); }
  bool ok() const { return ok_; }  // everything was there so far
  // True when everything was there and nothing is left.
  bool Finish() const { return ok_ && bytes_.empty(); }

 private:
  uint64_t Get(size_t n) {
    uint64_t v = 0;
    for (char c : Raw(n)) v = v << 8 | static_cast<uint8_t>(c);
    return v;
  }
  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace weft
