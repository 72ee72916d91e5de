// SPDX-License-Identifier: MIT
//
// weft-target: serves one block device or file to the clients of a cluster.
//   main thread: waits for a signal.  engine: all block I/O, and jobs on the target's places.
//   meta link: registration and heartbeats.  jobs, reports: what the metadata server wants done, and what came of it.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <mutex>
#include <thread>

#include "rdma/block_target.h"
#include "thrift-gen/TargetService.h"
#include "thrift-gen/meta_constants.h"
#include "userland/base/config.h"
#include "userland/base/key.h"
#include "userland/base/log.h"
#include "userland/target/backing.h"
#include "userland/target/checksummed_backend.h"
#include "userland/target/engine_thread.h"
#include "userland/target/floor_table.h"
#include "userland/target/incarnation.h"
#include "userland/target/job_link.h"
#include "userland/target/job_reports.h"
#include "userland/target/job_runner.h"
#include "userland/target/meta_link.h"
#include "userland/target/peer_reader.h"
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

int64_t RandomInstance() {
  Uuid random = RandomUuid();
  int64_t instance;
  memcpy(&instance, random.data(), sizeof instance);
  return instance;
}

// All of a target but its links to the metadata server; in the order in which the parts are made.
class Server {
 public:
  Status Open(const Settings& settings);
  ~Server() { Close(); }
  void Close();

  JobReports reports;
  std::unique_ptr<Backing> backing;
  std::unique_ptr<UringBackend> device;
  std::unique_ptr<ChecksummedBackend> storage;
  std::unique_ptr<FloorTable> floors;
  std::unique_ptr<rdma::Places> places;
  std::unique_ptr<PeerReader> peers;
  std::unique_ptr<JobRunner> runner;
  std::unique_ptr<rdma::BlockTarget> target;
  std::unique_ptr<EngineThread> engine;

 private:
  Status OpenStorage(const Settings& settings);
};

template <typename T>
Status Take(Result<T> result, T* out) {
  if (result.ok()) *out = *std::move(result);
  return result.status();
}

Status Server::OpenStorage(const Settings& settings) {
  Status s =
      Take(Backing::Open({.path = settings.backing, .create_bytes = settings.size_bytes, .force = settings.force}),
           &backing);
  if (!s.ok()) return s;
  const Areas& areas = backing->areas();
  uint64_t capacity = backing->capacity_bytes();
  s = Take(UringBackend::Create(backing->fd(), backing->is_device(), 0, areas.data + capacity), &device);
  if (!s.ok()) return s;
  StayResident();
  s = Take(ChecksummedBackend::Open(device.get(), {.areas = areas, .capacity_bytes = capacity}), &storage);
  if (!s.ok()) return s.Annotate(settings.backing);
  storage->OnDamage([this](std::span<const uint64_t> offsets) {
    LogWarning("{} blocks do not match their checksums, the first at offset {} of the data area", offsets.size(),
               offsets.front());
    reports.AddDamage(offsets);
  });
  s = Take(FloorTable::Open(backing->fd(), areas.places, areas.places_bytes), &floors);
  return s.ok() ? s : s.Annotate(settings.backing);
}

Status Server::Open(const Settings& settings) {
  Result<std::vector<uint8_t>> key = LoadClusterKey(settings.key);
  if (!key.ok()) return key.status();
  Result<uint64_t> incarnation = ReadIncarnation();
  if (!incarnation.ok()) return incarnation.status();
  if (Status s = OpenStorage(settings); !s.ok()) return s;
  places = std::make_unique<rdma::Places>(floors.get(), backing->capacity_bytes(), backing->chunk_bytes());
  peers = std::make_unique<PeerReader>(rdma::RealVerbs(), storage.get(), PeerReaderOptions{.cluster_key = *key});
  runner = std::make_unique<JobRunner>(places.get(), peers.get(),
                                       [this](const idl::JobResult& result) { reports.AddResult(result); });
  runner->OnScrub([this](rdma::BlockRange place) { storage->TellAgain(place.offset, place.length); });
  Status s = Take(rdma::BlockTarget::Create(rdma::RealVerbs(), storage.get(), backing.get(),
                                            {.host = settings.listen.host,
                                             .port = settings.listen.port,
                                             .uuid = backing->uuid(),
                                             .incarnation = *incarnation,
                                             .places = places.get(),
                                             .cluster_key = *key,
                                             .depth_max = static_cast<uint32_t>(settings.depth),
                                             .depth_total = static_cast<uint32_t>(settings.depth_total),
                                             .buffer_bytes = settings.buffer_bytes}),
                  &target);
  if (!s.ok()) return s;
  runner->SetEngine(target.get());
  return Take(EngineThread::Start(target.get(), storage.get(), runner.get(), SpinTime(settings)), &engine);
}

// The engine's last requests end into jobs, and the ring is waited in with the peers' event.
void Server::Close() {
  engine.reset();
  target.reset();
  if (device) device->StopWatching();  // the engine's events are gone
  if (storage) {
    if (Status s = storage->Close(); !s.ok()) LogWarning("{}", s.message());
    storage.reset();
  }
  device.reset();
}

std::unique_ptr<idl::RegisterTargetArgs> Self(const Settings& settings, const Server& server, int64_t instance) {
  auto self = std::make_unique<idl::RegisterTargetArgs>();
  self->protocol = idl::g_meta_constants.PROTOCOL_VERSION;
  self->cluster = settings.common.cluster;
  self->uuid = ToBytes(server.backing->uuid());
  self->name = settings.name;
  self->host = settings.address;
  self->port = server.target->port();
  self->capacity_bytes = static_cast<int64_t>(server.backing->capacity_bytes());
  self->weight = static_cast<int32_t>(settings.weight);
  self->zone = settings.zone;
  self->instance = instance;
  return self;
}

MetaLinkOptions LinkOptions(const Settings& settings, Server* server, int64_t instance) {
  MetaLinkOptions options;
  options.self = Self(settings, *server, instance);
  options.cluster = [server] { return server->backing->cluster(); };
  options.set_cluster = [server](const Uuid& cluster) { return server->backing->SetCluster(cluster); };
  options.chunk_bytes = [server] { return server->backing->chunk_bytes(); };
  options.set_chunk_bytes = [server](uint64_t bytes) {
    Status s = server->backing->SetChunkBytes(bytes);
    if (s.ok()) server->engine->Post([server, bytes] { server->places->SetPlaceBytes(bytes); });
    return s;
  };
  options.fill_report = [server](idl::TargetReport* report) {
    report->queue_depth = static_cast<int32_t>(server->target->counters().in_hand.load());
    report->load = server->engine->LoadPermille();
    report->device_latency_us = static_cast<int32_t>(std::min<uint32_t>(server->storage->TakeLatencyUs(), INT32_MAX));
    report->jobs = server->runner->Progress();
  };
  return options;
}

// Until a signal, or until the metadata server has refused this target for good: the reason.
Status Link(const Settings& settings, Server* server, SignalWaiter* signals) {
  // A member of a pool serves its clients whether weft-meta is there or not; a new target is of use to
  // nobody before it is registered.
  bool member = !IsNil(server->backing->cluster());
  if (member) NotifyReady(settings.common.ready_fd);
  int64_t instance = RandomInstance();
  Status refused;
  MetaLinkOptions options = LinkOptions(settings, server, instance);
  options.on_registered = [&settings, member] {
    if (!member) NotifyReady(settings.common.ready_fd);
  };
  options.on_refused = [&refused](const Status& why) {
    refused = why;  // the signal makes this thread wait for its end
    kill(getpid(), SIGTERM);
  };
  // Each needs the other: what is told before both are there is told again by the next report.
  std::mutex mutex;
  JobLink* other = nullptr;  // under mutex
  options.on_known = [&mutex, &other] {
    std::lock_guard lock(mutex);
    if (other) other->Known();
  };
  auto connect = [&mutex, &other](JobLink* jobs) {
    std::lock_guard lock(mutex);
    other = jobs;
  };
  MetaLink link(MakeTargetReporting(settings.meta), std::move(options));
  {
    JobLink jobs(MakeJobService(settings.meta, server->backing->uuid(), instance), &server->reports,
                 {.on_jobs =
                      [server](const idl::Jobs& list) {
                        server->engine->Post([server, list] { server->runner->SetJobs(list); });
                      },
                  .report_now = [&link] { link.ReportNow(); },
                  .chunk_bytes = [server] { return server->backing->chunk_bytes(); }});
    connect(&jobs);
    link.ReportNow();
    signals->Wait();
    LogInfo("stopping");
    connect(nullptr);
  }
  return refused;
}

Status Serve(const Settings& settings, SignalWaiter* signals) {
  Server server;
  if (Status s = server.Open(settings); !s.ok()) return s;
  LogInfo("target '{}' serves {} ({}) on {}", settings.name, settings.backing,
          FormatBytes(server.backing->capacity_bytes()),
          Address{settings.listen.host, server.target->port()}.ToString());
  return Link(settings, &server, signals);
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
