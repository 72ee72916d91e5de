// SPDX-License-Identifier: MIT
#include "userland/target/meta_link.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "thrift-gen/TargetService.h"
#include "userland/base/log.h"
#include "userland/rpc/client.h"
#include "userland/target/label.h"

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
  Result<idl::TargetOrders> Heartbeat(const Uuid& uuid, const idl::TargetReport& report, int64_t instance) override {
    return client_.Call([&](idl::TargetServiceClient& service) {
      idl::TargetOrders orders;
      service.heartbeat(orders, ToBytes(uuid), report, instance);
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

void MetaLink::ReportNow() {
  std::lock_guard lock(mutex_);
  hurry_ = true;
  stopping_.notify_all();
}

bool MetaLink::WaitMs(int ms, bool may_hurry) {
  std::unique_lock lock(mutex_);
  stopping_.wait_for(lock, std::chrono::milliseconds(ms), [&] { return stop_ || (may_hurry && hurry_); });
  hurry_ = false;
  return !stop_;
}

void MetaLink::Run() {
  int backoff_ms = kBackoffMinMs;
  int wait_ms = 0;
  bool failed = false;  // then it is as good as its back-off
  while (WaitMs(wait_ms, !failed)) {
    Status s = registered_ ? HeartbeatOnce(&wait_ms) : RegisterOnce(&wait_ms);
    failed = !s.ok();
    if (s.ok()) {
      options_.on_known();
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
  Result<idl::TargetOrders> orders = service_->Heartbeat(*uuid, report, options_.self->instance);
  if (!orders.ok()) return orders.status();
  return Obey(*orders, heartbeat_ms);
}

Status MetaLink::Obey(const idl::TargetOrders& orders, int* heartbeat_ms) {
  *heartbeat_ms = std::clamp(orders.heartbeat_ms, kHeartbeatMinMs, kHeartbeatMaxMs);
  if (orders.cluster_uuid.empty()) return Status::Ok();
  Result<Uuid> cluster = UuidFromBytes(orders.cluster_uuid);
  if (!cluster.ok()) return cluster.status().Annotate("orders of the metadata server");
  Uuid mine = options_.cluster();
  if (mine == *cluster) return ObeyPlaces(orders);
  if (!IsNil(mine)) {
    return Error(EINVAL, "the metadata server counts this target to cluster {}, its label says {}; check --meta",
                 ToString(*cluster), ToString(mine));
  }
  if (Status s = options_.set_cluster(*cluster); !s.ok()) return s;
  LogInfo("joined the pool of cluster {} as target {}", ToString(*cluster), orders.id);
  return ObeyPlaces(orders);
}

Status MetaLink::ObeyPlaces(const idl::TargetOrders& orders) {
  if (orders.chunk_bytes == 0) return Status::Ok();
  auto bytes = static_cast<uint64_t>(orders.chunk_bytes);
  uint64_t mine = options_.chunk_bytes();
  if (mine == bytes) return Status::Ok();
  if (mine != 0) {
    return Error(EINVAL, "the pool has chunks of {} bytes, this target's label says {}; check --meta", bytes, mine);
  }
  if (orders.chunk_bytes < 0 || bytes < kPlaceBytesMin || bytes % kPlaceBytesMin) {
    return Error(EPROTO, "the metadata server orders chunks of {} bytes: multiples of {} are possible",
                 orders.chunk_bytes, kPlaceBytesMin);
  }
  return options_.set_chunk_bytes(bytes);
}

}  // namespace weft::target
