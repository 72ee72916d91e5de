// SPDX-License-Identifier: MIT
//
// Configuration files: TOML read with toml++, checked strictly. Every key a program understands is
// asked for once; what remains is refused by Finish with the key's name and line, so that a typing
// error never passes silently. Not thread-safe; used during start-up.
//   Result<Config> c = Config::Load("/etc/weft/target.toml");
//   c->Read("listen.port", &port, 1, 65535);  ...;  Status s = c->Finish();
// The first error is kept and returned by Finish; reads after it change nothing.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <toml++/toml.h>

#include "userland/base/status.h"

namespace weft {

class Config {
 public:
  // ENOENT, EACCES, or EINVAL with "FILE:LINE: what is wrong".
  static Result<Config> Load(const std::string& path);
  static Result<Config> Parse(std::string_view text, const std::string& name);

  // Dotted key. A key that is absent leaves *out as it is (the default).
  void Read(std::string_view key, std::string* out);
  void Read(std::string_view key, bool* out);
  void Read(std::string_view key, int64_t* out, int64_t min, int64_t max);
  void Read(std::string_view key, std::vector<std::string>* out);
  // "64 MiB", "4KiB", "1G" (binary units) or a number of bytes.
  void ReadBytes(std::string_view key, uint64_t* out, uint64_t min, uint64_t max);

  // The first error of any Read, or EINVAL for a key that nobody asked for.
  Status Finish();

 private:
  const toml::node* Find(std::string_view key);
  void Fail(const toml::node* node, std::string_view key, std::string_view what);

  std::string name_;
  toml::table table_;
  std::set<std::string, std::less<>> known_;
  Status error_;
};

// "64 MiB" -> 67108864. EINVAL names the text.
Result<uint64_t> ParseBytes(std::string_view text);
// 67108864 -> "64.0 MiB"
std::string FormatBytes(uint64_t bytes);

}  // namespace weft
