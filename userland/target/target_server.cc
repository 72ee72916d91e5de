// SPDX-License-Identifier: MIT
#include "userland/target/target_server.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "rdma/block_target.h"
#include "thrift-gen/TargetService.h"
#include "thrift-gen/meta_constants.h"
#include "userland/base/config.h"
#include "userland/base/log.h"
#include "userland/target/checksummed_backend.h"
#include "userland/target/engine_thread.h"
#include "userland/target/floor_table.h"
#include "userland/target/job_link.h"
#include "userland/target/job_reports.h"
#include "userland/target/job_runner.h"
#include "userland/target/meta_link.h"
#include "userland/target/peer_reader.h"
#include "userland/target/plain_backend.h"
#include "userland/target/residency.h"
#include "userland/target/uring_backend.h"
#include "userland/target/volatile_floors.h"

namespace weft::target {
namespace {

int64_t RandomInstance() {
  Uuid random = RandomUuid();
  int64_t instance;
  memcpy(&instance, random.data(), sizeof instance);
  return instance;
}

template <typename T, typename U>
Status Take(Result<T> result, U* out) {
  if (result.ok()) *out = *std::move(result);
  return result.status();
}

}  // namespace

// All but the links; in the order in which the parts are made.
struct TargetServer::Storage {
  JobReports reports;
  std::unique_ptr<Backing> backing;
  std::unique_ptr<UringBackend> device;
  std::unique_ptr<ChecksummedBackend> checksummed;  // or plain
  std::unique_ptr<PlainBackend> plain;
  rdma::BlockBackend* backend = nullptr;  // that of the two which is there
  std::unique_ptr<rdma::FloorStore> floors;
  std::unique_ptr<rdma::Places> places;
  std::unique_ptr<PeerReader> peers;
  std::unique_ptr<JobRunner> runner;
  std::unique_ptr<rdma::BlockTarget> target;
  std::unique_ptr<EngineThread> engine;

  Status Open(const TargetServerOptions& options);
  Status Serve(const TargetServerOptions& options);
  ~Storage() { Close(); }
  void Close();

  uint32_t TakeLatencyUs() { return checksummed ? checksummed->TakeLatencyUs() : plain->TakeLatencyUs(); }

 private:
  Status OpenChecksummed();
  void OpenPlain(const TargetServerOptions& options);
};

Status TargetServer::Storage::OpenChecksummed() {
  Status s = Take(
      ChecksummedBackend::Open(device.get(), {.areas = backing->areas(), .capacity_bytes = backing->capacity_bytes()}),
      &checksummed);
  if (!s.ok()) return s;
  checksummed->OnDamage([this](std::span<const uint64_t> offsets) {
    LogWarning("{} blocks do not match their checksums, the first at offset {} of the data area", offsets.size(),
               offsets.front());
    reports.AddDamage(offsets);
  });
  backend = checksummed.get();
  return Take(FloorTable::Open(backing->fd(), backing->areas().places, backing->areas().places_bytes), &floors);
}

void TargetServer::Storage::OpenPlain(const TargetServerOptions& options) {
  plain = std::make_unique<PlainBackend>(device.get(), PlainOptions{.data_offset = backing->areas().data,
                                                                    .capacity_bytes = backing->capacity_bytes(),
                                                                    .write_cache = options.write_cache,
                                                                    .translate = options.translate,
                                                                    .may_send = options.may_send});
  device->SetMaySend(options.may_send);
  backend = plain.get();
  floors = std::make_unique<VolatileFloors>();
}

Status TargetServer::Storage::Open(const TargetServerOptions& options) {
  Status s = Take(Backing::Open(options.backing), &backing);
  if (!s.ok()) return s;
  uint64_t end = backing->areas().data + backing->capacity_bytes();
  s = Take(UringBackend::Create(backing->fd(), backing->is_device(), 0, end), &device);
  if (!s.ok()) return s;
  StayResident();
  if (options.backing.layout == Layout::kPlain) {
    OpenPlain(options);
  } else if (s = OpenChecksummed(); !s.ok()) {
    return s.Annotate(options.backing.path);
  }
  return Serve(options);
}

Status TargetServer::Storage::Serve(const TargetServerOptions& options) {
  places = std::make_unique<rdma::Places>(floors.get(), backing->capacity_bytes(), backing->chunk_bytes());
  peers =
      std::make_unique<PeerReader>(rdma::RealVerbs(), backend, PeerReaderOptions{.cluster_key = options.cluster_key});
  runner = std::make_unique<JobRunner>(places.get(), peers.get(),
                                       [this](const idl::JobResult& result) { reports.AddResult(result); });
  if (checksummed)
    runner->OnScrub([this](rdma::BlockRange place) { checksummed->TellAgain(place.offset, place.length); });
  Status s = Take(rdma::BlockTarget::Create(rdma::RealVerbs(), backend, backing.get(),
                                            {.host = options.listen.host,
                                             .port = options.listen.port,
                                             .uuid = backing->uuid(),
                                             .incarnation = options.incarnation,
                                             .places = places.get(),
                                             .cluster_key = options.cluster_key,
                                             .depth_max = options.depth,
                                             .depth_total = options.depth_total,
                                             .buffer_bytes = options.buffer_bytes}),
                  &target);
  if (!s.ok()) return s;
  runner->SetEngine(target.get());
  return Take(EngineThread::Start(target.get(), backend, runner.get(), options.spin), &engine);
}

// The engine's last requests end into jobs, and the ring is waited in with the peers' event.
void TargetServer::Storage::Close() {
  engine.reset();
  if (device) device->StopWatching();  // its events are gone, and the target may wait for requests under way
  target.reset();
  if (checksummed) {
    if (Status s = checksummed->Close(); !s.ok()) LogWarning("{}", s.message());
    checksummed.reset();
  }
  plain.reset();
  device.reset();
}

// ---- links ----------------------------------------------------------------------------------------------

class TargetServer::Links {
 public:
  Links(const TargetServerOptions& options, Storage* storage, LinkCallbacks callbacks);
  ~Links();

 private:
  std::unique_ptr<idl::RegisterTargetArgs> Self() const;
  MetaLinkOptions MetaOptions(LinkCallbacks callbacks);
  JobLinkOptions JobOptions();
  void Connect(JobLink* jobs);

  const TargetServerOptions& options_;
  Storage* const storage_;
  const int64_t instance_ = RandomInstance();
  // Each needs the other: what is told before both are there is told again by the next report.
  std::mutex mutex_;
  JobLink* other_ = nullptr;  // under mutex_
  std::unique_ptr<MetaLink> meta_;
  std::unique_ptr<JobLink> jobs_;
};

std::unique_ptr<idl::RegisterTargetArgs> TargetServer::Links::Self() const {
  auto self = std::make_unique<idl::RegisterTargetArgs>();
  self->protocol = idl::g_meta_constants.PROTOCOL_VERSION;
  self->cluster = options_.cluster;
  self->uuid = ToBytes(storage_->backing->uuid());
  self->name = options_.name;
  self->host = options_.address;
  self->port = storage_->target->port();
  self->capacity_bytes = static_cast<int64_t>(storage_->backing->capacity_bytes());
  self->weight = static_cast<int32_t>(options_.weight);
  self->zone = options_.zone;
  self->instance = instance_;
  if (options_.nvme) self->__set_nvme(*options_.nvme);
  return self;
}

MetaLinkOptions TargetServer::Links::MetaOptions(LinkCallbacks callbacks) {
  Backing* backing = storage_->backing.get();
  MetaLinkOptions link;
  link.self = Self();
  link.cluster = [backing] { return backing->cluster(); };
  link.set_cluster = [backing](const Uuid& cluster) { return backing->SetCluster(cluster); };
  link.chunk_bytes = [backing] { return backing->chunk_bytes(); };
  link.set_chunk_bytes = [storage = storage_](uint64_t bytes) {
    Status s = storage->backing->SetChunkBytes(bytes);
    if (s.ok()) storage->engine->Post([storage, bytes] { storage->places->SetPlaceBytes(bytes); });
    return s;
  };
  link.fill_report = [this](idl::TargetReport* report) {
    report->queue_depth = static_cast<int32_t>(storage_->target->counters().in_hand.load());
    report->load = storage_->engine->LoadPermille();
    report->device_latency_us = static_cast<int32_t>(std::min<uint32_t>(storage_->TakeLatencyUs(), INT32_MAX));
    report->jobs = storage_->runner->Progress();
    if (options_.add_to_report) options_.add_to_report(report);
  };
  link.on_registered = std::move(callbacks.on_registered);
  link.on_refused = std::move(callbacks.on_refused);
  link.on_known = [this] {
    std::lock_guard lock(mutex_);
    if (other_) other_->Known();
  };
  return link;
}

JobLinkOptions TargetServer::Links::JobOptions() {
  return {.on_jobs =
              [storage = storage_](const idl::Jobs& list) {
                storage->engine->Post([storage, list] { storage->runner->SetJobs(list); });
              },
          .report_now = [this] { meta_->ReportNow(); },
          .chunk_bytes = [storage = storage_] { return storage->backing->chunk_bytes(); }};
}

void TargetServer::Links::Connect(JobLink* jobs) {
  std::lock_guard lock(mutex_);
  other_ = jobs;
}

TargetServer::Links::Links(const TargetServerOptions& options, Storage* storage, LinkCallbacks callbacks)
    : options_(options), storage_(storage) {
  meta_ = std::make_unique<MetaLink>(MakeTargetReporting(options.meta), MetaOptions(std::move(callbacks)));
  jobs_ = std::make_unique<JobLink>(MakeJobService(options.meta, storage->backing->uuid(), instance_),
                                    &storage->reports, JobOptions());
  Connect(jobs_.get());
  meta_->ReportNow();
}

TargetServer::Links::~Links() {
  Connect(nullptr);
  jobs_.reset();
  meta_.reset();
}

// ---- both -----------------------------------------------------------------------------------------------

Result<std::unique_ptr<TargetServer>> TargetServer::Open(TargetServerOptions options) {
  std::unique_ptr<TargetServer> server(new TargetServer(std::move(options)));
  if (Status s = server->storage_->Open(server->options_); !s.ok()) return s;
  return server;
}

TargetServer::TargetServer(TargetServerOptions options)
    : options_(std::move(options)), storage_(std::make_unique<Storage>()) {}

TargetServer::~TargetServer() { Unlink(); }

void TargetServer::Link(LinkCallbacks callbacks) {
  links_ = std::make_unique<Links>(options_, storage_.get(), std::move(callbacks));
}

void TargetServer::Unlink() { links_.reset(); }

const Backing& TargetServer::backing() const { return *storage_->backing; }

uint16_t TargetServer::port() const { return storage_->target->port(); }

}  // namespace weft::target
