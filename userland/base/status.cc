// SPDX-License-Identifier: MIT
#include "userland/base/status.h"

#include <system_error>

namespace weft {

Status Status::Errno(int code, std::string_view message) {
  return Error(code, "{}: {}", message, std::generic_category().message(code));
}

Status Status::Annotate(std::string_view context) const {
  if (ok()) return *this;
  return Error(code_, "{}: {}", context, message_);
}

}  // namespace weft
