// SPDX-License-Identifier: MIT
#include "nvmeof/uri.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include <fmt/format.h>

#include "userland/base/address.h"

namespace weft::nvmeof {
namespace {

constexpr std::string_view kForm = "nvme+rdma://10.0.0.1:4420/nqn.2026-11.com.example:disk1?nsid=1";
constexpr std::string_view kScheme = "nvme+";
constexpr std::string_view kQuery = "nsid=";
constexpr std::string_view kDiscoveryNqn = "nqn.2014-08.org.nvmexpress.discovery";
constexpr uint32_t kNsidMax = 0xfffffffe;  // 0xffffffff means all of them

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameChar(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
}

// Decimal, without a sign and leading zeroes: one number has one form.
template <typename T>
std::optional<T> ParseNumber(std::string_view text, T max) {
  T value = 0;
  auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = err == std::errc() && end == text.data() + text.size();
  if (!whole || text.front() == '0' || value > max) return {};
  return value;
}

bool IsIpv4(const std::string& text) {
  in_addr address;
  return inet_pton(AF_INET, text.c_str(), &address) == 1;
}

// With the zone of a link-local address: "fe80::1%eth0".
bool IsIpv6(const std::string& text) {
  size_t percent = text.find('%');
  if (percent != std::string::npos) {
    std::string zone = text.substr(percent + 1);
    if (zone.empty() || !std::all_of(zone.begin(), zone.end(), IsNameChar)) return false;
  }
  in6_addr address;
  return inet_pton(AF_INET6, text.substr(0, percent).c_str(), &address) == 1;
}

bool IsHost(const std::string& text) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), IsNameChar)) return false;
  bool number = std::all_of(text.begin(), text.end(), [](char c) { return IsDigit(c) || c == '.'; });
  return !number || IsIpv4(text);
}

// What is between "://" and "/"; why: what is wrong with it.
std::optional<Endpoint> ParseEndpoint(Transport transport, std::string_view text, std::string* why) {
  Endpoint endpoint{.transport = transport, .host = {}};
  std::string_view rest;
  if (text.starts_with('[')) {
    size_t end = text.find(']');
    endpoint.host = text.substr(1, end == std::string_view::npos ? end : end - 1);
    if (end == std::string_view::npos || !IsIpv6(endpoint.host)) {
      *why = fmt::format("'{}' is not an IPv6 address in brackets", text);
      return {};
    }
    rest = text.substr(end + 1);
  } else {
    endpoint.host = text.substr(0, text.find(':'));
    rest = text.substr(endpoint.host.size());
    if (std::count(rest.begin(), rest.end(), ':') > 1) {
      *why = fmt::format("an IPv6 address needs brackets, '{}' has none", text);
      return {};
    }
    if (!IsHost(endpoint.host)) {
      *why = fmt::format("'{}' is neither an address nor the name of a host", endpoint.host);
      return {};
    }
  }
  if (rest.empty()) return endpoint;
  auto port = rest.front() == ':' ? ParseNumber<uint16_t>(rest.substr(1), UINT16_MAX) : std::nullopt;
  if (!port) {
    *why = fmt::format("'{}' is not a port: a number from 1 to {}", rest.substr(rest.front() == ':'), UINT16_MAX);
    return {};
  }
  endpoint.port = *port;
  return endpoint;
}

}  // namespace

std::string_view ToString(Transport transport) { return transport == Transport::kRdma ? "rdma" : "tcp"; }

std::string Endpoint::ToString() const {
  return fmt::format("{} {}", nvmeof::ToString(transport), Address{host, port}.ToString());
}

std::string Uri::ToString() const {
  return fmt::format("{}{}://{}/{}{}", kScheme, nvmeof::ToString(endpoint.transport),
                     Address{endpoint.host, endpoint.port}.ToString(), nqn,
                     nsid != 0 ? fmt::format("?{}{}", kQuery, nsid) : "");
}

Status CheckNqn(std::string_view nqn) {
  constexpr std::string_view kPrefix = "nqn.";
  if (!nqn.starts_with(kPrefix) || nqn.size() == kPrefix.size()) {
    return Error(EINVAL, "'{}' is not an NQN: that begins with \"{}\", such as nqn.2026-11.com.example:disk1", nqn,
                 kPrefix);
  }
  if (nqn.size() > kNqnBytesMax) {
    return Error(EINVAL, "NQN '{}' has {} bytes, {} is the most", nqn, nqn.size(), kNqnBytesMax);
  }
  // The kernel separates its options with commas, nvmet makes a folder with this name.
  auto bad = std::find_if(nqn.begin(), nqn.end(), [](char c) {
    auto byte = static_cast<unsigned char>(c);
    return byte <= ' ' || byte == 0x7f || c == ',' || c == '/' || c == '?';
  });
  if (bad != nqn.end()) {
    return Error(EINVAL, "NQN '{}' has a character at {} that must not be in it: a space, a control character or ,/?",
                 nqn, bad - nqn.begin());
  }
  return {};
}

bool LooksLikeUri(std::string_view text) { return text.starts_with(kScheme); }

Result<Uri> ParseUri(std::string_view text) {
  auto wrong = [&](const std::string& why) { return Error(EINVAL, "'{}': {}; wanted: {}", text, why, kForm); };
  size_t slashes = text.find("://");
  if (!LooksLikeUri(text) || slashes == std::string_view::npos) {
    return wrong("it does not begin with nvme+rdma:// or nvme+tcp://");
  }
  std::string_view name = text.substr(kScheme.size(), slashes - kScheme.size());
  if (name != "rdma" && name != "tcp") return wrong(fmt::format("transport '{}' is neither rdma nor tcp", name));

  std::string_view rest = text.substr(slashes + 3);
  size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return wrong("the NQN is missing");
  std::string why;
  auto endpoint = ParseEndpoint(name == "rdma" ? Transport::kRdma : Transport::kTcp, rest.substr(0, slash), &why);
  if (!endpoint) return wrong(why);

  rest = rest.substr(slash + 1);
  size_t question = rest.find('?');
  Uri uri{.endpoint = *endpoint, .nqn = std::string(rest.substr(0, question))};
  if (Status status = CheckNqn(uri.nqn); !status.ok()) return wrong(status.message());
  if (uri.nqn == kDiscoveryNqn) return wrong("a discovery subsystem has no namespaces");
  if (question == std::string_view::npos) return uri;
  std::string_view query = rest.substr(question + 1);
  if (!query.starts_with(kQuery)) return wrong(fmt::format("'?{}' is not ?nsid=N", query));
  auto nsid = ParseNumber<uint32_t>(query.substr(kQuery.size()), kNsidMax);
  if (!nsid) {
    return wrong(fmt::format("nsid '{}' is not a number from 1 to {}", query.substr(kQuery.size()), kNsidMax));
  }
  uri.nsid = *nsid;
  return uri;
}

}  // namespace weft::nvmeof
