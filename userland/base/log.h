// SPDX-License-Identifier: MIT
//
// Logging for daemons and tools: spdlog behind one initialisation. Messages go to stderr as
// "LEVEL program: text key=value ..."; under systemd (JOURNAL_STREAM set) with the journal's
// "<N>" priority prefix and without the time. Use from any thread after InitLog.
//   LogInfo("target {} is up", name);
#pragma once

#include <string_view>

#include <spdlog/spdlog.h>

#include "userland/base/status.h"

namespace weft {

// level: trace, debug, info, warning, error. EINVAL names any other.
Status InitLog(std::string_view program, std::string_view level);

template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::debug(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::info(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::warn(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::error(format, std::forward<Args>(args)...);
}

}  // namespace weft
