// SPDX-License-Identifier: MIT
//
// A target's link to weft-meta: registers, then reports at the pace that weft-meta asks for; writes the
// cluster that the target joins, and the size of its chunks, into its label. Own thread. When weft-meta is away it goes
// on trying, with back-off: serving blocks does not depend on it. Refused for good before it was ever registered (wrong
// cluster, wrong server, wrong backing), it gives up: somebody has just started it wrongly.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "userland/base/address.h"
#include "userland/base/status.h"
#include "userland/base/uuid.h"

namespace weft::idl {
class RegisterTargetArgs;
class TargetOrders;
class TargetReport;
}  // namespace weft::idl

namespace weft::target {

// The service of weft-meta, as a seam. Errors as in userland/rpc/client.h.
class TargetReporting {
 public:
  virtual ~TargetReporting() = default;
  virtual Result<idl::TargetOrders> Register(const idl::RegisterTargetArgs& args) = 0;
  virtual Result<idl::TargetOrders> Heartbeat(const Uuid& uuid, const idl::TargetReport& report, int64_t instance) = 0;
  virtual void Interrupt() = 0;  // any thread: ends a running call
};

std::unique_ptr<TargetReporting> MakeTargetReporting(const Address& meta);

struct MetaLinkOptions {
  std::unique_ptr<idl::RegisterTargetArgs> self;           // without cluster_uuid
  std::function<Uuid()> cluster;                           // of the label
  std::function<Status(const Uuid& cluster)> set_cluster;  // into the label
  std::function<uint64_t()> chunk_bytes;                   // of the label
  std::function<Status(uint64_t bytes)> set_chunk_bytes;   // into the label, once; the target has places then
  std::function<void(idl::TargetReport* report)> fill_report;
  std::function<void()> on_known;  // from the link's thread: the server has answered, and knows this target
  // From the link's thread, one of the two and once: registered for the first time; refused for good,
  // nothing follows.
  std::function<void()> on_registered;
  std::function<void(const Status& why)> on_refused;
};

class MetaLink {
 public:
  MetaLink(std::unique_ptr<TargetReporting> service, MetaLinkOptions options);
  ~MetaLink();  // ends the thread
  MetaLink(const MetaLink&) = delete;
  MetaLink& operator=(const MetaLink&) = delete;

  void ReportNow();  // instead of waiting until it is time. Any thread

 private:
  void Run();
  Status RegisterOnce(int* heartbeat_ms);
  Status HeartbeatOnce(int* heartbeat_ms);
  Status Obey(const idl::TargetOrders& orders, int* heartbeat_ms);
  Status ObeyPlaces(const idl::TargetOrders& orders);
  bool WaitMs(int ms, bool may_hurry);  // false: stop

  std::unique_ptr<TargetReporting> service_;
  MetaLinkOptions options_;
  bool registered_ = false;
  bool told_ = false;       // on_registered was called
  std::string last_error_;  // logged once while it stays the same
  std::mutex mutex_;
  std::condition_variable stopping_;
  bool stop_ = false;   // under mutex_
  bool hurry_ = false;  // under mutex_: ReportNow
  std::thread thread_;  // last: uses the others
};

}  // namespace weft::target
