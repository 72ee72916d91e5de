// SPDX-License-Identifier: MIT
//
// /dev/nvme-fabrics: one line of options written to it makes a controller, and its number is read back.
//
// This is not left to libnvme's nvmf_add_ctrl(): of what the kernel returns, version 1.3 passes on six errnos and
// makes one of all others, among them those for a wrong key, an unknown subsystem and a host that is not reached.
//
// Creating blocks, and cannot be interrupted, until the kernel has connected or given up: a few seconds as a rule, 80
// for an RDMA peer that never answers. A target that rejects a DH-HMAC-CHAP key ends the connection, and with RDMA
// that may overtake its answer: then the kernel sends eight commands into nowhere, each for
// nvme_core.admin_timeout (60 s). The kernel connects one controller at a time: all others wait for it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "nvmeof/fabric.h"
#include "nvmeof/host.h"
#include "userland/base/status.h"

namespace weft::nvmeof {

inline constexpr std::string_view kDiscoveryNqn = "nqn.2014-08.org.nvmexpress.discovery";

struct ConnectRequest {
  Endpoint endpoint;  // host: a numeric address
  std::string nqn;
  HostIdentity identity;
  HostSettings settings;
  // "nqn=...,transport=rdma,...": a value that is empty or 0 is left to the kernel.
  std::string Options() const;
};

class FabricsDevice {
 public:
  // ENODEV: there is none; EPERM: only root may.
  static Result<FabricsDevice> Open(const char* path = "/dev/nvme-fabrics");
  ~FabricsDevice();
  FabricsDevice(FabricsDevice&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FabricsDevice& operator=(FabricsDevice&&) = delete;

  // ENOPROTOOPT names the option that this kernel does not have.
  Status CheckOptions(std::string_view options) const;
  // The name of the controller, "nvme3"; or the bare errno, for ExplainConnectError. Only once for each object.
  Result<std::string> Create(std::string_view options);

 private:
  explicit FabricsDevice(int fd) : fd_(fd) {}

  int fd_;
};

// What of `options` is not in `supported`, the kernel's list of forms ("transport=%s,traddr=%s,tls"); empty: nothing.
std::string UnsupportedOption(std::string_view options, std::string_view supported);

}  // namespace weft::nvmeof
