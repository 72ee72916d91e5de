// SPDX-License-Identifier: MIT
#include "nvmeof/host.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <vector>

#include <boost/algorithm/string/trim.hpp>
#include <boost/crc.hpp>
#include <fmt/format.h>
#include <openssl/evp.h>

#include "userland/base/uuid.h"

namespace weft::nvmeof {
namespace {

constexpr std::string_view kKeyPrefix = "DHHC-1:";
constexpr size_t kKeyTextBytesMax = 256;  // the longest is 103
constexpr size_t kCrcBytes = 4;

Result<std::string> ReadFirstLine(const std::string& path, std::string_view setting, std::string_view command) {
  std::ifstream file(path);
  std::string line;
  if (!file) {
    return Error(ENOENT, "{} is missing, and no {} is set; `{} > {}` makes one", path, setting, command, path);
  }
  std::getline(file, line);
  boost::algorithm::trim(line);
  if (line.empty()) return Error(ENOENT, "{} is empty, and no {} is set; `{} > {}`", path, setting, command, path);
  return line;
}

// Empty: it is not base64.
std::vector<uint8_t> DecodeBase64(std::string_view text) {
  std::vector<uint8_t> bytes(text.size() / 4 * 3);
  if (text.empty() || text.size() % 4 != 0) return {};
  int n = EVP_DecodeBlock(bytes.data(), reinterpret_cast<const uint8_t*>(text.data()), static_cast<int>(text.size()));
  if (n < 0) return {};
  size_t padding = text.size() - 1 - text.find_last_not_of('=');
  if (padding > 2) return {};
  bytes.resize(n - padding);  // OpenSSL counts what is padded
  return bytes;
}

uint32_t Crc32(const uint8_t* data, size_t size) {
  boost::crc_32_type crc;
  crc.process_bytes(data, size);
  return crc.checksum();
}

uint32_t LittleEndian(const uint8_t* data) {
  return data[0] | data[1] << 8 | data[2] << 16 | static_cast<uint32_t>(data[3]) << 24;
}

// Whether a key of this size goes with this transformation; without one it may have each of the sizes.
bool IsKeySize(char hash, size_t bytes) {
  switch (hash) {
    case '0':
      return bytes == 32 || bytes == 48 || bytes == 64;
    case '1':
      return bytes == 32;
    case '2':
      return bytes == 48;
    case '3':
      return bytes == 64;
    default:
      return false;
  }
}

bool IsAddress(const std::string& text) {
  in_addr v4;
  in6_addr v6;
  return inet_pton(AF_INET, text.c_str(), &v4) == 1 ||
         inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), &v6) == 1;
}

}  // namespace

Result<HostIdentity> IdentifyHost(const HostSettings& host, const std::string& folder) {
  HostIdentity identity{.hostnqn = host.hostnqn, .hostid = host.hostid};
  if (identity.hostnqn.empty()) {
    auto line = ReadFirstLine(folder + "/hostnqn", "host NQN", "nvme gen-hostnqn");
    if (!line.ok()) return line.status();
    identity.hostnqn = *line;
  }
  if (identity.hostid.empty()) {
    auto line = ReadFirstLine(folder + "/hostid", "host id", "uuidgen");
    if (!line.ok()) return line.status();
    identity.hostid = *line;
  }
  if (Status status = CheckNqn(identity.hostnqn); !status.ok()) return status.Annotate("host NQN");
  auto uuid = ParseUuid(identity.hostid);
  if (!uuid.ok()) return uuid.status().Annotate("host id");
  identity.hostid = weft::ToString(*uuid);  // the kernel takes this form only
  return identity;
}

std::chrono::milliseconds DrainTime(const HostSettings& host, const std::string& sysfs) {
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  constexpr uint32_t kKernelsKeepAliveS = 5;
  constexpr uint32_t kKernelsIoTimeoutS = 30;
  if (host.fast_io_fail_s == 0 && host.ctrl_loss_s < 0) return milliseconds::max();
  uint32_t io_timeout_s = kKernelsIoTimeoutS;
  std::ifstream(sysfs + "/module/nvme_core/parameters/io_timeout") >> io_timeout_s;
  if (io_timeout_s == 0) io_timeout_s = kKernelsIoTimeoutS;
  seconds keep_alive(host.keep_alive_s ? host.keep_alive_s : kKernelsKeepAliveS);
  seconds given_up(host.fast_io_fail_s ? host.fast_io_fail_s : static_cast<uint32_t>(host.ctrl_loss_s));
  // It is sent every half of its time, and its answer has the whole of it.
  return std::max<milliseconds>(seconds(io_timeout_s), keep_alive * 3 / 2) + given_up;
}

Status CheckDhchapKey(std::string_view name, std::string_view key) {
  auto wrong = [&](std::string_view why) {
    return Error(EINVAL, "{} is not a DH-HMAC-CHAP secret: {}; make one with `nvme gen-dhchap-key`", name, why);
  };
  if (!key.starts_with(kKeyPrefix)) return wrong("it does not begin with \"DHHC-1:\"");
  if (key.size() > kKeyTextBytesMax) return wrong("it is too long");
  std::string_view rest = key.substr(kKeyPrefix.size());
  if (rest.size() < 3 || rest[0] != '0' || rest[1] < '0' || rest[1] > '3' || rest[2] != ':') {
    return wrong("its hash is not 00, 01, 02 or 03");
  }
  char hash = rest[1];
  rest.remove_prefix(3);
  if (!rest.ends_with(':')) return wrong("it does not end with a colon");
  rest.remove_suffix(1);
  std::vector<uint8_t> bytes = DecodeBase64(rest);
  if (bytes.empty()) return wrong("what is between its last colons is not base64");
  if (bytes.size() <= kCrcBytes || !IsKeySize(hash, bytes.size() - kCrcBytes)) {
    return wrong(fmt::format("hash 0{} does not go with {} bytes of key and checksum", hash, bytes.size()));
  }
  size_t key_bytes = bytes.size() - kCrcBytes;
  if (Crc32(bytes.data(), key_bytes) != LittleEndian(bytes.data() + key_bytes)) {
    return wrong("its checksum is wrong, so a character of it is");
  }
  return {};
}

Status CheckSettings(const HostSettings& host, Transport transport) {
  if (!host.dhchap_key.empty()) {
    if (Status status = CheckDhchapKey("dhchap_key", host.dhchap_key); !status.ok()) return status;
  }
  if (!host.dhchap_ctrl_key.empty()) {
    if (Status status = CheckDhchapKey("dhchap_ctrl_key", host.dhchap_ctrl_key); !status.ok()) return status;
    if (host.dhchap_key.empty()) {
      return Error(EINVAL,
                   "dhchap_ctrl_key is set without dhchap_key: a controller proves itself only to a host that does");
    }
  }
  if (host.tls && transport != Transport::kTcp) {
    return Error(ENOPROTOOPT, "TLS is set, which NVMe over {} does not have; use nvme+tcp or set no TLS",
                 ToString(transport));
  }
  if (!host.host_address.empty() && !IsAddress(host.host_address)) {
    return Error(EINVAL, "host address '{}' is not an IPv4 or IPv6 address", host.host_address);
  }
  if (host.host_iface.empty()) return {};
  if (transport != Transport::kTcp) {
    return Error(ENOPROTOOPT, "host interface '{}' is set, which the kernel has for nvme+tcp only; set a host address",
                 host.host_iface);
  }
  if (if_nametoindex(host.host_iface.c_str()) == 0) {
    return Error(EINVAL, "host interface '{}' does not exist; `ip link` lists those of this host", host.host_iface);
  }
  return {};
}

}  // namespace weft::nvmeof
