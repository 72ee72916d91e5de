// SPDX-License-Identifier: MIT
#include "userland/balancer/libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <sstream>
#include <utility>

namespace weft::balancer {
namespace {

std::string* collector = nullptr;  // set by the one LibbpfLog that lives

int Collect(libbpf_print_level level, const char* format, va_list args) {
  if (level > LIBBPF_WARN || collector == nullptr) return 0;
  char* text = nullptr;
  int length = vasprintf(&text, format, args);
  if (length < 0) return length;
  collector->append(text, length);
  free(text);
  return length;
}

}  // namespace

std::string LastLines(const std::string& text, size_t lines) {
  std::deque<std::string> kept;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.empty()) continue;
    kept.push_back(std::move(line));
    if (kept.size() > lines) kept.pop_front();
  }
  std::string tail;
  for (const std::string& line : kept) tail += "\n  " + line;
  return tail;
}

LibbpfLog::LibbpfLog() {
  collector = &text_;
  libbpf_set_print(Collect);
}

LibbpfLog::~LibbpfLog() { collector = nullptr; }

}  // namespace weft::balancer
