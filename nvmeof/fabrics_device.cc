// SPDX-License-Identifier: MIT
#include "nvmeof/fabrics_device.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/split.hpp>
#include <fmt/format.h>

namespace weft::nvmeof {
namespace {

constexpr size_t kAnswerBytesMax = 4096;

void Append(std::string* options, std::string_view name, std::string_view value) {
  if (!value.empty()) *options += fmt::format(",{}={}", name, value);
}
void Append(std::string* options, std::string_view name, uint32_t value) {
  if (value != 0) *options += fmt::format(",{}={}", name, value);
}

std::vector<std::string> Split(std::string_view options) {
  std::vector<std::string> parts;
  boost::algorithm::split(parts, options, boost::is_any_of(",\n"), boost::token_compress_on);
  return parts;
}

std::string NameOf(const std::string& option) { return option.substr(0, option.find('=')); }

std::string_view Describe(std::string_view option) {
  if (option.starts_with("dhchap")) return "DH-HMAC-CHAP (CONFIG_NVME_HOST_AUTH)";
  if (option == "tls") return "TLS for NVMe (CONFIG_NVME_TCP_TLS)";
  return option;
}

}  // namespace

std::string ConnectRequest::Options() const {
  bool discovery = nqn == kDiscoveryNqn;
  std::string options = fmt::format("nqn={},transport={},traddr={},trsvcid={}", nqn, ToString(endpoint.transport),
                                    endpoint.host, endpoint.port);
  Append(&options, "hostnqn", identity.hostnqn);
  Append(&options, "hostid", identity.hostid);
  Append(&options, "host_traddr", settings.host_address);
  Append(&options, "host_iface", settings.host_iface);
  if (settings.tls) options += ",tls";
  // a discovery controller is asked once and goes: nothing is kept alive or connected again
  if (discovery) return options;
  Append(&options, "nr_io_queues", settings.queues);
  Append(&options, "keep_alive_tmo", settings.keep_alive_s);
  Append(&options, "reconnect_delay", settings.reconnect_s);
  Append(&options, "fast_io_fail_tmo", settings.fast_io_fail_s);
  options += fmt::format(",ctrl_loss_tmo={}", settings.ctrl_loss_s);
  Append(&options, "dhchap_secret", settings.dhchap_key);
  Append(&options, "dhchap_ctrl_secret", settings.dhchap_ctrl_key);
  return options;
}

Result<FabricsDevice> FabricsDevice::Open(const char* path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd >= 0) return FabricsDevice(fd);
  if (errno == EACCES || errno == EPERM) return Error(EPERM, "{}: only root may connect NVMe-oF controllers", path);
  if (errno != ENOENT && errno != ENODEV && errno != ENXIO) return Status::Errno(errno, path);
  return Error(ENODEV, "this kernel has no {}; `modprobe nvme-rdma` or `modprobe nvme-tcp` loads what makes it", path);
}

FabricsDevice::~FabricsDevice() {
  if (fd_ >= 0) close(fd_);
}

Status FabricsDevice::CheckOptions(std::string_view options) const {
  std::array<char, kAnswerBytesMax> answer;
  ssize_t n = pread(fd_, answer.data(), answer.size(), 0);
  if (n <= 0) return {};  // kernels before 5.17 do not tell
  std::string missing = UnsupportedOption(options, {answer.data(), static_cast<size_t>(n)});
  if (missing.empty()) return {};
  return Error(ENOPROTOOPT, "this kernel does not have {}, which the settings ask for", Describe(missing));
}

Result<std::string> FabricsDevice::Create(std::string_view options) {
  if (write(fd_, options.data(), options.size()) < 0) return Status(errno, strerrordesc_np(errno));
  std::array<char, kAnswerBytesMax> answer{};
  ssize_t n = pread(fd_, answer.data(), answer.size() - 1, 0);
  if (n < 0) return Status(errno, strerrordesc_np(errno));
  int instance = -1;
  for (const std::string& field : Split({answer.data(), static_cast<size_t>(n)})) {
    if (sscanf(field.c_str(), "instance=%d", &instance) == 1) break;
  }
  if (instance < 0) return Error(EPROTO, "/dev/nvme-fabrics answered '{}', without an instance", answer.data());
  return fmt::format("nvme{}", instance);
}

std::string UnsupportedOption(std::string_view options, std::string_view supported) {
  std::vector<std::string> known = Split(supported);
  std::transform(known.begin(), known.end(), known.begin(), NameOf);
  for (const std::string& option : Split(options)) {
    std::string name = NameOf(option);
    if (std::find(known.begin(), known.end(), name) == known.end()) return name;
  }
  return {};
}

}  // namespace weft::nvmeof
