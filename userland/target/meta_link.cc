// SPDX-License-Identifier: MIT
#include "userland/target/meta_link.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "thrift-gen/TargetService.h"
#include "userland/base/log.h"
#include "userland/rpc/client.h"

namespace weft::target {
namespace {

constexpr int kBackoffMinMs = 100;
constexpr int kBackoffMaxMs = 5000;
constexpr int kHeartbeatMinMs = 50;
constexpr int kHeartbeatMaxMs = 60'000;
constexpr int kReplyWaitMs = 10'000;

class RpcReporting final : public TargetReporting {
 public:
  explicit RpcReporting(const Address& meta) : client_(meta, kTargetService, {.reply_ms = kReplyWaitMs}) {}
  Result<idl::TargetOrders> Register(const idl::RegisterTargetArgs& args) override {
    return client_.Call([&](idl::TargetServiceClient& service) {
      idl::TargetOrders orders;
      service.registerTarget(orders, args);
      return orders;
    });
  }
  Result<idl::TargetOrders> Heartbeat(const Uuid& uuid, const idl::TargetReport& report) override {
    return client_.Call([&](idl::TargetServiceClient& service) {
      idl::TargetOrders orders;
      service.heartbeat(orders, ToBytes(uuid), report, 0);
      return orders;
    });
  }
  void Interrupt() override { client_.Interrupt(); }

 private:
  RpcClient<idl::TargetServiceClient> client_;
};

// Whether asking again cannot help, as long as nobody changes how this target or the server was started.
// Not so EEXIST (a name in use: its holder may be about to go), ENOSPC and errors of the connection.
bool IsFinal(const Status& refusal) { return refusal.code() == EINVAL || refusal.code() == EPROTO; }

}  // namespace

std::unique_ptr<TargetReporting> MakeTargetReporting(const Address& meta) {
  return std::make_unique<RpcReporting>(meta);
}

MetaLink::MetaLink(std::unique_ptr<TargetReporting> service, MetaLinkOptions options)
    : service_(std::move(service)), options_(std::move(options)), thread_([this] { Run(); }) {}

MetaLink::~MetaLink() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopping_.notify_all();
  service_->Interrupt();
  thread_.join();
}

bool MetaLink::WaitMs(int ms) {
  std::unique_lock lock(mutex_);
  stopping_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stop_; });
  return !stop_;
}

void MetaLink::Run() {
  int backoff_ms = kBackoffMinMs;
  int wait_ms = 0;
  while (WaitMs(wait_ms)) {
    Status s = registered_ ? HeartbeatOnce(&wait_ms) : RegisterOnce(&wait_ms);
    if (s.ok()) {
      if (!last_error_.empty()) LogInfo("the metadata server answers");
      last_error_.clear();
      backoff_ms = kBackoffMinMs;
      continue;
    }
    if (s.code() == ESTALE) {  // it has forgotten this target, or was started anew
      registered_ = false;
      wait_ms = backoff_ms;
      backoff_ms = std::min(2 * backoff_ms, kBackoffMaxMs);
      continue;
    }
    if (!told_ && IsFinal(s)) {
      options_.on_refused(s);
      return;
    }
    if (s.code() != ECANCELED && s.message() != last_error_) {
      LogWarning("{}; trying again", s.message());
      last_error_ = s.message();
    }
    wait_ms = backoff_ms;
    backoff_ms = std::min(2 * backoff_ms, kBackoffMaxMs);
  }
}

Status MetaLink::RegisterOnce(int* heartbeat_ms) {
  idl::RegisterTargetArgs args = *options_.self;
  Uuid cluster = options_.cluster();
  if (!IsNil(cluster)) args.cluster_uuid = ToBytes(cluster);
  Result<idl::TargetOrders> orders = service_->Register(args);
  if (!orders.ok()) return orders.status();
  if (Status s = Obey(*orders, heartbeat_ms); !s.ok()) return s;
  registered_ = true;
  LogInfo("registered as target '{}' of cluster '{}'{}", args.name, args.cluster,
          orders->id ? fmt::format(", id {}", orders->id) : ", not in a pool yet");
  if (!told_) options_.on_registered();
  told_ = true;
  return Status::Ok();
}

Status MetaLink::HeartbeatOnce(int* heartbeat_ms) {
  idl::TargetReport report;
  options_.fill_report(&report);
  Result<Uuid> uuid = UuidFromBytes(options_.self->uuid);
  if (!uuid.ok()) return uuid.status();
  Result<idl::TargetOrders> orders = service_->Heartbeat(*uuid, report);
  if (!orders.ok()) return orders.status();
  return Obey(*orders, heartbeat_ms);
}

Status MetaLink::Obey(const idl::TargetOrders& orders, int* heartbeat_ms) {
  *heartbeat_ms = std::clamp(orders.heartbeat_ms, kHeartbeatMinMs, kHeartbeatMaxMs);
  if (orders.cluster_uuid.empty()) return Status::Ok();
  Result<Uuid> cluster = UuidFromBytes(orders.cluster_uuid);
  if (!cluster.ok()) return cluster.status().Annotate("orders of the metadata server");
  Uuid mine = options_.cluster();
  if (mine == *cluster) return Status::Ok();
  if (!IsNil(mine)) {
    return Error(EINVAL, "the metadata server counts this target to cluster {}, its label says {}; check --meta",
                 ToString(*cluster), ToString(mine));
  }
  if (Status s = options_.set_cluster(*cluster); !s.ok()) return s;
  LogInfo("joined the pool of cluster {} as target {}", ToString(*cluster), orders.id);
  return Status::Ok();
}

}  // namespace weft::target
