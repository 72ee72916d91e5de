// SPDX-License-Identifier: MIT
//
// Who this host is to storage nodes, and whether what its settings say can be asked of the kernel at all. The
// kernel refuses a bad option with EINVAL alone, so everything is checked here first. Use from any thread.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "nvmeof/fabric.h"
#include "userland/base/status.h"

namespace weft::nvmeof {

struct HostIdentity {
  std::string hostnqn;
  std::string hostid;  // a UUID
};

// The settings', and what they do not say from `folder`/hostnqn and `folder`/hostid. ENOENT names the file that is
// missing and the command that makes it; EINVAL what is not an NQN or a UUID.
Result<HostIdentity> IdentifyHost(const HostSettings& host, const std::string& folder = "/etc/nvme");

// So long after this host sent its last request that request may still take effect: the kernel finds out that a path
// is broken (keep-alive, or the request's time-out: module parameter io_timeout of nvme_core below `sysfs`), and sends
// it again by a path that comes back before it gives up (fast_io_fail_s). A storage node that sits on a request for
// longer is not counted in. Where a path is never given up: milliseconds::max().
std::chrono::milliseconds DrainTime(const HostSettings& host, const std::string& sysfs = "/sys");

// A secret as `nvme gen-dhchap-key` writes it: "DHHC-1:" HASH ":" BASE64(key, CRC-32 of it in little-endian) ":".
// HASH says how it was transformed: 00 not at all, 01, 02, 03 by SHA-256, -384, -512. EINVAL says what is wrong,
// and never shows the secret. name: of the setting.
Status CheckDhchapKey(std::string_view name, std::string_view key);

// Whether they fit together, and the transport: EINVAL, or ENOPROTOOPT for what this transport never has.
Status CheckSettings(const HostSettings& host, Transport transport);

}  // namespace weft::nvmeof
