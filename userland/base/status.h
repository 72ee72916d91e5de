// SPDX-License-Identifier: MIT
//
// Status and Result: how every function of weftfs that can fail says so. No exceptions.
// A Status is an errno and a message for people that names the thing, the value and the remedy.
// Both are values; use from any thread.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace weft {

class [[nodiscard]] Status {
 public:
  Status() = default;  // success
  // code: errno value > 0.
  Status(int code, std::string message) : code_(code), message_(std::move(message)) { assert(code > 0); }

  static Status Ok() { return {}; }
  // "MESSAGE: strerror(code)"
  static Status Errno(int code, std::string_view message);

  bool ok() const { return code_ == 0; }
  int code() const { return code_; }  // errno, 0: success
  const std::string& message() const { return message_; }
  // The same error, told with what was being done: "CONTEXT: message".
  Status Annotate(std::string_view context) const;

 private:
  int code_ = 0;
  std::string message_;
};

template <typename... Args>
Status Error(int code, fmt::format_string<Args...> format, Args&&... args) {
  return {code, fmt::format(format, std::forward<Args>(args)...)};
}

// A T or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                  // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT(google-explicit-constructor)

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace weft
