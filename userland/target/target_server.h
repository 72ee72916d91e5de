// SPDX-License-Identifier: MIT
//
// All of a target in one process: storage, engine, jobs, and the links to the metadata server. weft-target is one of
// it; weftd has one for each NVMe-oF target (userland/agent/gateway.h).
//
//   engine thread: all block I/O, and jobs on the target's places.  meta link: registration and heartbeats.
//   jobs, reports: what the metadata server wants done, and what came of it.
//
// Open -> serves connections.  Link -> registers; destroyed or Unlinked before what the callbacks use.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rdma/fence.h"
#include "userland/base/address.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"
#include "userland/target/backing.h"

namespace weft::idl {
class NvmeNamespace;
class TargetReport;
}  // namespace weft::idl

namespace weft::target {

struct TargetServerOptions {
  std::string cluster;  // name
  std::string name;
  BackingOptions backing;
  bool write_cache = false;                          // of a plain backing
  std::function<int32_t(int32_t result)> translate;  // PlainOptions::translate
  std::function<bool()> may_send{};                  // PlainOptions::may_send
  std::vector<uint8_t> cluster_key;
  uint64_t incarnation = 1;
  Address listen;
  std::string address;  // that clients connect to
  Address meta;
  std::string zone;
  uint32_t weight = 100;
  uint64_t buffer_bytes = 64 << 20;
  uint32_t depth = 256;
  uint32_t depth_total = 2048;
  std::chrono::microseconds spin{0};
  std::shared_ptr<const idl::NvmeNamespace> nvme;                // of kind nvmeof; else null
  std::function<void(idl::TargetReport* report)> add_to_report;  // from the link's thread; may be empty
};

class TargetServer {
 public:
  struct LinkCallbacks {
    // From the link's thread, one of the two and once: see MetaLinkOptions.
    std::function<void()> on_registered;
    std::function<void(const Status& why)> on_refused;
  };

  static Result<std::unique_ptr<TargetServer>> Open(TargetServerOptions options);
  ~TargetServer();
  TargetServer(const TargetServer&) = delete;
  TargetServer& operator=(const TargetServer&) = delete;

  void Link(LinkCallbacks callbacks);
  void Unlink();  // ends the links' threads

  const Backing& backing() const;
  uint16_t port() const;

 private:
  struct Storage;
  class Links;
  explicit TargetServer(TargetServerOptions options);

  const TargetServerOptions options_;
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<Links> links_;
};

}  // namespace weft::target
