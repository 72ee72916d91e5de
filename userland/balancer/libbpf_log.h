// SPDX-License-Identifier: MIT
//
// Collects what libbpf says (the verifier's log is part of it) while it lives, for the error message.
// libbpf has one print function per process: one LibbpfLog at a time.
#pragma once

#include <string>

namespace weft::balancer {

inline constexpr size_t kLogLinesShown = 20;

// The last `lines` lines of `text` that are not empty, each led by a line break and an indent.
std::string LastLines(const std::string& text, size_t lines);

class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  std::string Tail() const { return LastLines(text_, kLogLinesShown); }

 private:
  std::string text_;
};

}  // namespace weft::balancer
