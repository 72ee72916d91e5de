// SPDX-License-Identifier: MIT
#include "userland/base/uuid.h"

#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include <boost/uuid/random_generator.hpp>
#include <boost/uuid/string_generator.hpp>
#include <boost/uuid/uuid.hpp>
#include <boost/uuid/uuid_io.hpp>

namespace weft {

Uuid RandomUuid() {
  boost::uuids::uuid made = boost::uuids::random_generator()();
  Uuid uuid;
  std::copy(made.begin(), made.end(), uuid.begin());
  return uuid;
}

std::string ToString(const Uuid& uuid) {
  boost::uuids::uuid value;
  std::copy(uuid.begin(), uuid.end(), value.begin());
  return boost::uuids::to_string(value);
}

Result<Uuid> ParseUuid(std::string_view text) {
  try {
    boost::uuids::uuid value = boost::uuids::string_generator()(text.begin(), text.end());
    Uuid uuid;
    std::copy(value.begin(), value.end(), uuid.begin());
    return uuid;
  } catch (const std::runtime_error&) {
    return Error(EINVAL, "'{}' is not a UUID", text);
  }
}

std::string ToBytes(const Uuid& uuid) { return {uuid.begin(), uuid.end()}; }

Result<Uuid> UuidFromBytes(std::string_view bytes) {
  Uuid uuid;
  if (bytes.size() != uuid.size()) return Error(EINVAL, "a UUID has 16 bytes, not {}", bytes.size());
  std::copy(bytes.begin(), bytes.end(), uuid.begin());
  return uuid;
}

}  // namespace weft
