// SPDX-License-Identifier: MIT
#include "userland/agent/agent.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "userland/agent/codec.h"
#include "userland/base/log.h"

namespace weft::agent {
namespace {

constexpr int kAttachTries = 3;                        // each waits WEFT_ATTACH_WAIT_MS in the kernel
constexpr std::chrono::milliseconds kPathMargin{500};  // an initiator tells of a lost target after `detect`
constexpr int kAskMs = 2000;                           // a gateway that is ended waits as long for the metadata server

bool HasNvme(const idl::TargetMap& map) {
  return std::ranges::any_of(map.targets, [](const auto& target) { return target.__isset.nvme; });
}

// A server that does not answer is not waited for: whoever asks does so again.
Status SessionLives(const Address& meta, uint64_t session) {
  RpcClient<idl::MetaServiceClient> server(meta, kMetaService, {.connect_ms = kAskMs, .reply_ms = kAskMs});
  return server.Call([session](idl::MetaServiceClient& service) {
    idl::Session lives;
    service.reclaimSession(lives, static_cast<int64_t>(session));
  });
}

GatewayOptions GatewayOptionsOf(const AgentOptions& options, std::shared_ptr<const Lease> lease,
                                std::function<std::string(uint32_t)> data_path) {
  GatewayOptions gateway = options.gateway;
  gateway.lease = std::move(lease);
  gateway.data_path = std::move(data_path);
  gateway.cluster = options.attach.cluster;
  gateway.meta = options.meta;
  gateway.detect = options.detect;
  gateway.session_lives = [meta = options.meta](uint64_t session) { return SessionLives(meta, session); };
  return gateway;
}

Result<std::unique_ptr<channel::Channel>> AttachPatiently(channel::Device* device,
                                                          const channel::AttachOptions& options) {
  for (int attempt = 1;; ++attempt) {
    auto channel = channel::Channel::Attach(device, options);
    if (channel.ok() || channel.status().code() != EAGAIN || attempt == kAttachTries) return channel;
    LogWarning("{}; trying again", channel.status().message());
  }
}

}  // namespace

Result<std::unique_ptr<Agent>> Agent::Attach(channel::Device* device, InitiatorMaker make_initiator,
                                             const AgentOptions& options) {
  auto channel = AttachPatiently(device, options.attach);
  if (!channel.ok()) return channel.status();
  return std::unique_ptr<Agent>(new Agent(*std::move(channel), std::move(make_initiator), options));
}

Agent::Agent(std::unique_ptr<channel::Channel> channel, InitiatorMaker make_initiator, const AgentOptions& options)
    : options_(options),
      channel_(std::move(channel)),
      start_link_(options.meta, health_),
      targets_([this](const std::vector<weft_target_info>& infos) { return channel_->SetTargets(infos); },
               options.zone),
      paths_({.kernel = [this](uint32_t target,
                               const std::optional<BlockDevice>& device) { return HandDevice(target, device); },
              .queues =
                  [this](uint32_t target, const std::optional<BlockDevice>& device) {
                    return OnAllLoops([&](QueueLoop& loop) { return loop.SetDevice(target, device); });
                  }}),
      gateways_(GatewayOptionsOf(options, lease_, [this](uint32_t target) { return paths_.NameOf(target); }),
                [this](uint32_t target, const Status& state, const nvmeof::Namespace* found) {
                  paths_.SetNamespace(target, state, found);
                  // A namespace whose paths are away for a while is waited for, by the kernel's multipath.
                  targets_.SetGateway(target, found ? Status::Ok() : state,
                                      found ? found->paths : std::vector<nvmeof::Path>());
                }),
      settler_({.set_chunks = [this](const std::vector<weft_chunk>& maps) { return SetChunks(maps); },
                .settle = [this] { return channel_->Settle(); }},
               options.meta, health_),
      session_({.server = options.meta,
                .cluster = options.attach.cluster,
                .client = channel_->client(),
                .host = options.host,
                .hostnqn = options.hostnqn,
                .nvme_drain = options.nvme_drain},
               health_, this),
      dispatcher_(channel_.get(), &session_, options.meta, health_, options.meta_connections) {
  for (size_t i = 0; i < channel_->queue_count(); ++i) {
    QueueLoopOptions loop = {.spin = options.spin,
                             .spin_for_devices = options.spin_for_devices,
                             .detect = options.detect,
                             .create_initiator = {},
                             .on_path = {},
                             .lease = lease_};
    loop.create_initiator = [this, make_initiator](uint64_t session) {
      return make_initiator(channel_->pool(), session);
    };
    loop.on_path = [this, i](uint32_t target, const Status& state, uint64_t incarnation) {
      targets_.SetPath(i, target, state, incarnation);
    };
    loops_.push_back(std::make_unique<QueueLoop>(channel_.get(), channel_->queue(i), &dispatcher_, std::move(loop)));
  }
}

Agent::~Agent() { Stop(std::chrono::milliseconds(0)); }

Status Agent::Start() {
  LogInfo("attached to cluster \"{}\" epoch={} queues={} depth={} pool={} MiB session={}", options_.attach.cluster,
          channel_->epoch(), channel_->queue_count(), channel_->depth(), channel_->pool().size() >> 20,
          channel_->session());
  for (auto& loop : loops_) {
    if (Status s = loop->Start(); !s.ok()) return s;
  }
  if (channel_->session() != 0) {
    if (Status s = session_.Reclaim(&start_link_, channel_->session()); !s.ok()) return s;
  }
  session_.Start();
  dispatcher_.Start();
  return channel_->Ready();
}

void Agent::Stop(std::chrono::milliseconds grace) {
  if (loops_.empty()) return;
  auto deadline = std::chrono::steady_clock::now() + grace;
  for (auto& loop : loops_) loop->BeginStop(grace);
  size_t left = 0;
  for (auto& loop : loops_) left += loop->Join();
  session_.BeginStop();  // an unmount does not wait for gateways now
  auto remaining = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  left += dispatcher_.Stop(std::max(remaining, std::chrono::milliseconds(0)));
  session_.Stop();
  settler_.Stop();
  gateways_.Stop(false);
  loops_.clear();
  if (left > 0) LogInfo("{} requests stay with the kernel for the next agent", left);
}

Status Agent::OnAllLoops(const std::function<Status(QueueLoop&)>& task) {
  Status first;
  for (auto& loop : loops_) {
    Status s = loop->Run(task);
    if (!s.ok() && first.ok()) first = s;
  }
  return first;
}

Status Agent::OnSessionOpen(const idl::Session& session) {
  auto cluster = UuidFromBytes(session.cluster_uuid);
  if (!cluster.ok()) return cluster.status().Annotate("session: cluster_uuid");
  targets_.SetMap(session.targets);
  paths_.SetMap(session.targets);
  settler_.Begin(session.id, session.chunks_version, HasNvme(session.targets));
  // The targets that they lend a hand to can be reached when they have registered.
  gateways_.SetSession({.cluster = *cluster,
                        .session = static_cast<uint64_t>(session.id),
                        .fence_below = static_cast<uint64_t>(session.fence_below)});
  gateways_.SetMap(session.targets);
  gateways_.WaitTried(options_.detect);
  idl::TargetMap map = session.targets;
  gateways_.Localize(&map);
  auto endpoints = EndpointsOf(map);
  if (!endpoints.ok()) return endpoints.status();
  Status s =
      OnAllLoops([&](QueueLoop& loop) { return loop.OpenSession(static_cast<uint64_t>(session.id), *endpoints); });
  if (!s.ok()) return s;
  // A wrong key is a mistake of the person at the keyboard: fail. Targets that do not answer are for the
  // mount's own policy, hard or soft.
  Status path = targets_.WaitForPath(options_.detect + kPathMargin);
  if (path.code() == EACCES || path.code() == EKEYREJECTED) return Error(EKEYREJECTED, "{}", path.message());
  if (!path.ok()) LogWarning("no target is reachable yet, requests will wait: {}", path.message());
  return {};
}

void Agent::OnTargets(const idl::TargetMap& told) {
  targets_.SetMap(told);
  paths_.SetMap(told);
  settler_.SetNeeded(HasNvme(told));
  gateways_.SetMap(told);
  idl::TargetMap map = told;
  gateways_.Localize(&map);
  auto endpoints = EndpointsOf(map);
  if (!endpoints.ok()) return LogError("{}", endpoints.status().message());
  if (Status s = OnAllLoops([&](QueueLoop& loop) { return loop.SetTargets(*endpoints); }); !s.ok()) {
    LogError("taking target map {} over: {}", map.version, s.message());
  }
}

// What the kernel does not get here it learns when a target refuses the old version.
void Agent::OnChunks(const std::vector<idl::Chunk>& chunks, int64_t version) {
  std::vector<weft_chunk> maps;
  for (const idl::Chunk& chunk : chunks) {
    if (auto map = EncodeChunks({chunk}); map.ok()) {
      maps.push_back(map->front());
    } else {
      LogError("{}", map.status().message());
    }
  }
  if (Status s = SetChunks(maps); !s.ok()) LogError("{}", s.message());
  settler_.Told(maps, version);
}

Status Agent::SetChunks(const std::vector<weft_chunk>& maps) {
  Status first;
  for (std::span<const weft_chunk> left = maps; !left.empty();) {
    size_t count = std::min<size_t>(left.size(), WEFT_CHUNKS_PER_CALL);
    if (Status s = channel_->SetChunks(left.first(count)); !s.ok() && first.ok()) first = s;
    left = left.subspan(count);
  }
  return first;
}

// The kernel opens the device for itself; the descriptor only names it.
Status Agent::HandDevice(uint32_t target, const std::optional<BlockDevice>& device) {
  weft_ioc_device args = {};
  args.target = target;
  args.fd = -1;
  if (!device) return channel_->SetDevice(args);
  args.fd = open(device->path.c_str(), O_RDWR | O_CLOEXEC);
  if (args.fd < 0) return Status::Errno(errno, device->path);
  args.data_offset = device->data_offset;
  if (device->write_cache) args.flags |= WEFT_DEVICE_FUA;
  Status s = channel_->SetDevice(args);
  close(args.fd);
  return s;
}

void Agent::OnLease(int64_t until_ns) {
  bool held = lease_->holds();
  lease_->Set(until_ns);
  if (Status s = channel_->SetLease(until_ns); !s.ok()) LogError("{}", s.message());
  if (held) return;
  for (auto& loop : loops_) loop->Wake();
}

void Agent::OnSessionEnded() {
  OnLease(0);
  settler_.End();
  paths_.Clear();
  gateways_.BeginStop();
  if (Status s = OnAllLoops([](QueueLoop& loop) { return loop.EndSession(); }); !s.ok()) LogError("{}", s.message());
}

std::string Agent::OnSessionClosing() {
  std::string busy = gateways_.BeginStop();
  // Of a mount that was forced away there may be requests at devices.
  Status quiet = OnAllLoops(
      [](QueueLoop& loop) { return loop.at_ports() == 0 ? Status() : Error(EBUSY, "requests are under way"); });
  if (quiet.code() == EBUSY) busy += fmt::format("{}block devices of queue threads", busy.empty() ? "" : ", ");
  return busy;
}

void Agent::OnSessionClosed() {
  OnLease(0);
  if (Status s = OnAllLoops([](QueueLoop& loop) { return loop.CloseSession(); }); !s.ok()) LogError("{}", s.message());
  settler_.End();
  paths_.Clear();
  if (gateways_.BeginStop().empty()) {
    gateways_.Stop(true);
  } else {
    gateways_.Abandon();
  }
  targets_.Clear();
}

}  // namespace weft::agent
