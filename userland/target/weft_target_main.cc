// SPDX-License-Identifier: MIT
//
// weft-target: serves one block device or file to the clients of a cluster.
//   main thread: waits for a signal.  engine: all block I/O.  meta link: registration and heartbeats.
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <thread>

#include "rdma/block_target.h"
#include "thrift-gen/TargetService.h"
#include "thrift-gen/meta_constants.h"
#include "userland/base/config.h"
#include "userland/base/key.h"
#include "userland/base/log.h"
#include "userland/target/backing.h"
#include "userland/target/engine_thread.h"
#include "userland/target/meta_link.h"
#include "userland/target/residency.h"
#include "userland/target/settings.h"
#include "userland/target/uring_backend.h"

namespace weft::target {
namespace {

constexpr std::chrono::microseconds kSpin{50};
constexpr unsigned kSmallMachineCpus = 2;  // there a thread that looks for work keeps others from making it

std::chrono::microseconds SpinTime(const Settings& settings) {
  if (settings.spin_us >= 0) return std::chrono::microseconds(settings.spin_us);
  return std::thread::hardware_concurrency() <= kSmallMachineCpus ? std::chrono::microseconds(0) : kSpin;
}

std::unique_ptr<idl::RegisterTargetArgs> Self(const Settings& settings, const Backing& backing, uint16_t port) {
  auto self = std::make_unique<idl::RegisterTargetArgs>();
  self->protocol = idl::g_meta_constants.PROTOCOL_VERSION;
  self->cluster = settings.common.cluster;
  self->uuid = ToBytes(backing.uuid());
  self->name = settings.name;
  self->host = settings.address;
  self->port = port;
  self->capacity_bytes = static_cast<int64_t>(backing.capacity_bytes());
  self->weight = static_cast<int32_t>(settings.weight);
  self->zone = settings.zone;
  return self;
}

MetaLinkOptions LinkOptions(const Settings& settings, Backing* backing, rdma::BlockTarget* target,
                            EngineThread* engine) {
  MetaLinkOptions options;
  options.self = Self(settings, *backing, target->port());
  options.cluster = [backing] { return backing->cluster(); };
  options.set_cluster = [backing](const Uuid& cluster) { return backing->SetCluster(cluster); };
  options.fill_report = [target, engine](idl::TargetReport* report) {
    report->queue_depth = static_cast<int32_t>(target->counters().in_hand.load());
    report->load = engine->LoadPermille();
  };
  return options;
}

Status Serve(const Settings& settings, SignalWaiter* signals) {
  Result<std::vector<uint8_t>> key = LoadClusterKey(settings.key);
  if (!key.ok()) return key.status();
  auto backing =
      Backing::Open({.path = settings.backing, .create_bytes = settings.size_bytes, .force = settings.force});
  if (!backing.ok()) return backing.status();
  auto storage = UringBackend::Create((*backing)->fd(), (*backing)->is_device(), (*backing)->areas().data,
                                      (*backing)->capacity_bytes());
  if (!storage.ok()) return storage.status();
  StayResident();
  auto target = rdma::BlockTarget::Create(rdma::RealVerbs(), storage->get(), backing->get(),
                                          {.host = settings.listen.host,
                                           .port = settings.listen.port,
                                           .uuid = (*backing)->uuid(),
                                           .cluster_key = *key,
                                           .depth_max = static_cast<uint32_t>(settings.depth),
                                           .depth_total = static_cast<uint32_t>(settings.depth_total),
                                           .buffer_bytes = settings.buffer_bytes});
  if (!target.ok()) return target.status();
  auto engine = EngineThread::Start(target->get(), storage->get(), SpinTime(settings));
  if (!engine.ok()) return engine.status();
  LogInfo("target '{}' serves {} ({}) on {}", settings.name, settings.backing,
          FormatBytes((*backing)->capacity_bytes()), Address{settings.listen.host, (*target)->port()}.ToString());

  // A member of a pool serves its clients whether weft-meta is there or not; a new target is of use to
  // nobody before it is registered.
  bool member = !IsNil((*backing)->cluster());
  if (member) NotifyReady(settings.common.ready_fd);
  Status refused;
  MetaLinkOptions options = LinkOptions(settings, backing->get(), target->get(), engine->get());
  options.on_registered = [&settings, member] {
    if (!member) NotifyReady(settings.common.ready_fd);
  };
  options.on_refused = [&refused](const Status& why) {
    refused = why;  // the signal makes this thread wait for its end
    kill(getpid(), SIGTERM);
  };
  {
    MetaLink link(MakeTargetReporting(settings.meta), std::move(options));
    signals->Wait();
    LogInfo("stopping");
  }
  return refused;  // then, in this order: engine thread, connections, ring, file
}

int Main(int argc, char** argv) {
  SignalWaiter signals;
  Settings settings;
  if (auto exit_code = ParseSettings(argc, argv, &settings)) return *exit_code;
  if (Status s = InitLog("weft-target", settings.common.log_level); !s.ok()) {
    std::cerr << "weft-target: " << s.message() << std::endl;
    return 2;
  }
  if (Status s = Serve(settings, &signals); !s.ok()) {
    LogError("{}", s.message());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace weft::target

int main(int argc, char** argv) { return weft::target::Main(argc, argv); }
