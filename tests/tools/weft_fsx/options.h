// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

namespace weft::test {

struct Options {
  std::string directory;         // on the file system under test
  std::string models_directory;  // elsewhere: what each file must hold in the end, as plain files; empty: none
  uint64_t seed = 0;
  uint64_t operations = 2000;
  uint64_t size_max_bytes = 8 << 20;
  unsigned processes = 1;
  bool direct = true;
  bool mmap = true;
  bool fallocate = true;
  bool drop_caches = false;  // of the whole system now and then: needs root
  bool require_all = false;  // an operation that the file system does not know is an error
  bool verbose = false;      // print each operation
};

}  // namespace weft::test
