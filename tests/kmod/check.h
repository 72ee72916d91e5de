// SPDX-License-Identifier: MIT
//
// Checks of this test program: a failed one is printed and counted, and the test goes on.
#pragma once

#include <cstring>
#include <iostream>
#include <sstream>
#include <string>

namespace weft::kmod_test {

inline int failures = 0;

template <typename A, typename B>
bool CheckEqual(const A& got, const B& want, const char* text, const char* file, int line) {
  if (got == want) return true;
  ++failures;
  std::cerr << file << ":" << line << ": " << text << " is " << got << ", not " << want << std::endl;
  return false;
}

inline bool CheckTrue(bool value, const char* text, const char* file, int line) {
  if (value) return true;
  ++failures;
  std::cerr << file << ":" << line << ": not so: " << text << " (errno " << errno << ", " << std::strerror(errno) << ")"
            << std::endl;
  return false;
}

}  // namespace weft::kmod_test

#define CHECK_EQ(got, want) ::weft::kmod_test::CheckEqual((got), (want), #got, __FILE__, __LINE__)
#define CHECK(condition) ::weft::kmod_test::CheckTrue((condition), #condition, __FILE__, __LINE__)
