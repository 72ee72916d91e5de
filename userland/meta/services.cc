// SPDX-License-Identifier: MIT
#include "userland/meta/services.h"

#include <algorithm>
#include <chrono>

#include <thrift/processor/TMultiplexedProcessor.h>

#include "thrift-gen/meta_constants.h"
#include "userland/base/daemon.h"
#include "userland/base/log.h"
#include "userland/rpc/client.h"
#include "userland/rpc/limits.h"
#include "userland/meta/fsck_online.h"

namespace weft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kJobsWaitMsMax = 60'000;
constexpr std::chrono::seconds kFenceWait{10};  // less than callers wait for an answer

// Heartbeats, jobs and their results have a connection each; what is left is the clients'.
constexpr int kConnectionsPerTarget = 3;
static_assert(kConnectionsPerTarget * kTargetsMax + 1024 <= kConnectionsMax);

void ThrowUnlessOk(const Status& status) {
  if (status.ok()) return;
  idl::ServiceError error;
  error.code = status.code();
  error.message = status.message();
  throw error;
}

template <typename T>
T ValueOrThrow(Result<T> result) {
  ThrowUnlessOk(result.status());
  return *std::move(result);
}

class MetaService final : public idl::MetaServiceIf {
 public:
  MetaService(Engine* engine, int lease_ms) : engine_(engine), lease_ms_(lease_ms) {}

  void openSession(idl::Session& reply, const idl::OpenSessionArgs& params) override {
    auto open = [&](StateMachine& m) { return m.OpenSession(params); };
    Clock::time_point end = Clock::now() + kFenceWait;
    int64_t seen = engine_->events_version();
    auto session = engine_->Run(open);
    while (!session.ok() && session.status().code() == EAGAIN && Clock::now() < end) {
      auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
      if (!engine_->AwaitEvents(seen, static_cast<int>(left))) break;
      seen = engine_->events_version();
      session = engine_->Run(open);
    }
    if (!session.ok() && session.status().code() == EAGAIN) session = Error(EBUSY, "{}", session.status().message());
    if (!session.ok()) LogWarning("session refused: {}", session.status().message());
    reply = ValueOrThrow(std::move(session));
  }

  void reclaimSession(idl::Session& reply, int64_t session) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.ReclaimSession(session); }));
  }

  void closeSession(int64_t session) override {
    ThrowUnlessOk(engine_->Run([&](StateMachine& m) {
      m.CloseSession(session);
      return Status::Ok();
    }));
  }

  void execute(std::vector<idl::Reply>& replies, int64_t session, const std::vector<idl::Request>& requests) override {
    ThrowUnlessOk(engine_->Run([&](StateMachine& m) {
      Status status = m.CheckSession(session);
      if (!status.ok()) return status;
      for (const idl::Request& request : requests) replies.push_back(m.Execute(session, request));
      return status;
    }));
  }

  void chunksSettled(int64_t session, int64_t version) override {
    ThrowUnlessOk(engine_->Run([&](StateMachine& m) { return m.ChunksSettled(session, version); }));
  }

  void nextEvents(idl::Events& events, int64_t session, int64_t targets_version, int32_t wait_ms,
                  int64_t chunks_version) override {
    auto renew = [&](StateMachine& m) { return m.NextEvents(session, targets_version, chunks_version); };
    int64_t seen = engine_->events_version();
    events = ValueOrThrow(engine_->Run(renew));
    wait_ms = std::clamp(wait_ms, 0, lease_ms_ / 3);
    if (events.__isset.targets || events.__isset.chunks || wait_ms == 0) return;
    engine_->AwaitEvents(seen, wait_ms);
    events = ValueOrThrow(engine_->Run(renew));
  }

 private:
  Engine* const engine_;
  const int lease_ms_;
};

class AdminService final : public idl::AdminServiceIf {
 public:
  explicit AdminService(Engine* engine) : engine_(engine), fsck_(engine) {}

  void version(idl::Version& reply) override {
    reply.software = kSoftwareVersion;
    reply.protocol = idl::g_meta_constants.PROTOCOL_VERSION;
    reply.protocol_min = idl::g_meta_constants.PROTOCOL_VERSION_MIN;
  }

  void createPool(idl::PoolStatus& reply, const idl::CreatePoolArgs& params) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.CreatePool(params); }));
  }

  void poolStatus(idl::PoolStatus& reply) override {
    reply = ValueOrThrow(engine_->Run([](StateMachine& m) { return Result<idl::PoolStatus>(m.PoolStatus()); }));
  }

  void setPool(idl::PoolStatus& reply, const idl::PoolSettings& settings) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.SetPool(settings); }));
  }
  void addTarget(idl::PoolStatus& reply, const std::string& name) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.AddTarget(name); }));
  }
  void addNvmeTarget(idl::PoolStatus& reply, const idl::RegisterTargetArgs& args, bool only_check) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.AddNvmeTarget(args, only_check); }));
  }
  void setDataPath(idl::PoolStatus& reply, const std::string& name, idl::DataPath::type path) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.SetDataPath(name, path); }));
  }
  void drainTarget(idl::PoolStatus& reply, const std::string& name, bool cancel) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.DrainTarget(name, cancel); }));
  }
  void removeTarget(idl::PoolStatus& reply, const std::string& name, bool lost) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.RemoveTarget(name, lost); }));
  }
  void rebalance(idl::PoolStatus& reply, bool stop) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.Rebalance(stop); }));
  }
  void scrub(idl::PoolStatus& reply, bool stop) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.Scrub(stop); }));
  }
  void fsck(idl::FsckReport& reply, const idl::FsckArgs& params) override {
    reply = ValueOrThrow(fsck_.Run(params.repair));
  }

  void evictSession(int64_t session, bool host_is_off) override {
    ThrowUnlessOk(engine_->Run([&](StateMachine& m) { return m.EvictSession(session, host_is_off); }));
  }

 private:
  Engine* const engine_;
  FsckOnline fsck_;
};

class TargetService final : public idl::TargetServiceIf {
 public:
  explicit TargetService(Engine* engine) : engine_(engine) {}

  void registerTarget(idl::TargetOrders& reply, const idl::RegisterTargetArgs& params) override {
    auto orders = engine_->Run([&](StateMachine& m) { return m.RegisterTarget(params); });
    if (!orders.ok()) LogWarning("registration refused: {}", orders.status().message());
    reply = ValueOrThrow(std::move(orders));
  }

  void heartbeat(idl::TargetOrders& reply, const std::string& uuid, const idl::TargetReport& report,
                 int64_t instance) override {
    reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.Heartbeat(uuid, report, instance); }));
  }

  void nextJobs(idl::Jobs& reply, const std::string& uuid, int64_t instance, int64_t version,
                int32_t wait_ms) override {
    Clock::time_point end = Clock::now() + std::chrono::milliseconds(std::clamp(wait_ms, 0, kJobsWaitMsMax));
    for (;;) {
      int64_t seen = engine_->events_version();
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
      // A list without its jobs is only looked at here: to a target it would say that there are none.
      int64_t known = left > 0 ? version : -1;
      reply = ValueOrThrow(engine_->Run([&](StateMachine& m) { return m.NextJobs(uuid, instance, known); }));
      if (reply.version > known) return;
      if (!engine_->AwaitEvents(seen, static_cast<int>(left))) end = Clock::now();
    }
  }

  void finishJobs(const std::string& uuid, int64_t instance, const std::vector<idl::JobResult>& results) override {
    ThrowUnlessOk(engine_->Run([&](StateMachine& m) { return m.FinishJobs(uuid, instance, results); }));
  }
  void reportDamage(const std::string& uuid, int64_t instance, const std::vector<idl::Damage>& damages) override {
    ThrowUnlessOk(engine_->Run([&](StateMachine& m) { return m.ReportDamage(uuid, instance, damages); }));
  }

 private:
  Engine* const engine_;
};

}  // namespace

std::shared_ptr<apache::thrift::TProcessor> MakeMetaProcessor(Engine* engine, int lease_ms) {
  auto all = std::make_shared<apache::thrift::TMultiplexedProcessor>();
  all->registerProcessor(std::string(kMetaService),
                         std::make_shared<idl::MetaServiceProcessor>(std::make_shared<MetaService>(engine, lease_ms)));
  all->registerProcessor(std::string(kAdminService),
                         std::make_shared<idl::AdminServiceProcessor>(std::make_shared<AdminService>(engine)));
  all->registerProcessor(std::string(kTargetService),
                         std::make_shared<idl::TargetServiceProcessor>(std::make_shared<TargetService>(engine)));
  return all;
}

}  // namespace weft
