// SPDX-License-Identifier: MIT
//
// Why the kernel did not connect a controller: from the errno, and from the kernel log where one errno has several
// causes. Measured with Linux 6.12 as host and target, RDMA (rxe) and TCP, unless a line says otherwise:
//
//   cause                           rdma                  tcp           log, "nvme nvmeN: ..."
//   no such subsystem               EIO                   EIO           Connect Invalid Data Parameter, subsysnqn
//   host is not admitted            EIO                   EIO           Connect for subsystem X is not allowed, hostnqn
//   key is wanted, none given       ENOKEY                ENOKEY        qid 0: no key
//   wrong key                       EKEYREJECTED, or EIO  EKEYREJECTED  qid 0: authentication failed, error N
//                                   (fabrics_device.h)
//   controller cannot prove a key   EKEYREJECTED          EKEYREJECTED  qid 0: authentication failed, error -129
//   nothing listens                 ECONNRESET            ECONNREFUSED  rdma: Connect rejected: status 8
//   no answer                       ECONNRESET            ETIMEDOUT     rdma: connection establishment failed (-104)
//   no route                        ENETUNREACH           ENETUNREACH
//   no RDMA device leads there      ENODEV
//   host address is not its own     EADDRNOTAVAIL         EADDRNOTAVAIL
//   TLS, no PSK in the keyring                            ENOKEY        no valid PSK found
//   TLS, no tlshd                                         ESRCH         queue 0: failed to start TLS: -3
//   module of the transport missing EINVAL                EINVAL
//   other host id with this NQN     EINVAL                EINVAL
//
// A pure function; use from any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nvmeof/fabrics_device.h"
#include "userland/base/status.h"

namespace weft::nvmeof {

struct ConnectFailure {
  ConnectRequest request;  // endpoint: as people said it
  int error = 0;           // errno
  // What the kernel logged of the controller (OfNewControllers); none: it cannot be read.
  std::optional<std::vector<std::string>> log;
  // Whether the discovery controller at the endpoint lists the subsystem to this host; none: nobody asked.
  std::optional<bool> listed;
  bool has_module = true;
  std::string identity_conflict;  // "nvme2 has host id ..."
};

// Of the kernel's messages those of controllers that are not in `known`, without "nvme nvmeN: ".
std::vector<std::string> OfNewControllers(const std::vector<std::string>& messages,
                                          const std::vector<std::string>& known);

// Neither errno nor log says it: whether `listed` would help.
bool IsAmbiguous(const ConnectFailure& failure);

// Codes as Fabric::Connect has them; names endpoint, NQN or host NQN, and the remedy.
Status ExplainConnectError(const ConnectFailure& failure);

}  // namespace weft::nvmeof
