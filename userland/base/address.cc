// SPDX-License-Identifier: MIT
#include "userland/base/address.h"

#include <cerrno>
#include <charconv>

namespace weft {

std::string Address::ToString() const {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

Result<Address> ParseAddress(std::string_view text, uint16_t default_port) {
  auto wrong = [&] {
    return Error(EINVAL, "'{}' is not an address such as 10.0.0.1{}", text,
                 default_port != 0 ? fmt::format(" or 10.0.0.1:{}", default_port) : ":7470");
  };
  Address address;
  std::string_view port;
  if (text.starts_with('[')) {
    size_t end = text.find(']');
    if (end == std::string_view::npos) return wrong();
    address.host = text.substr(1, end - 1);
    std::string_view rest = text.substr(end + 1);
    if (!rest.empty() && rest.front() != ':') return wrong();
    if (rest == ":") return wrong();
    port = rest.empty() ? rest : rest.substr(1);
  } else {
    size_t colon = text.find(':');
    if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos) {
      address.host = text;  // a bare IPv6 address
    } else {
      address.host = text.substr(0, colon);
      if (colon != std::string_view::npos) {
        port = text.substr(colon + 1);
        if (port.empty()) return wrong();
      }
    }
  }
  if (address.host.empty()) return wrong();
  address.port = default_port;
  if (!port.empty()) {
    auto [end, err] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (err != std::errc() || end != port.data() + port.size()) return wrong();
  }
  if (address.port == 0) return wrong();
  return address;
}

}  // namespace weft
