// SPDX-License-Identifier: MIT
#include "userland/agent/gateway.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "nvmeof/await_namespace.h"
#include "thrift-gen/TargetService.h"
#include "userland/base/log.h"
#include "userland/target/target_server.h"

namespace weft::agent {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr milliseconds kLook{250};  // at the paths
constexpr milliseconds kRetryMin{200};
constexpr milliseconds kRetryMax{5000};
constexpr uint64_t kBufferBytes = 8 << 20;  // for jobs and for copies that are being made, not for every request
constexpr uint32_t kDepthTotal = 256;

std::string_view DataPathName(idl::DataPath::type path) { return path == idl::DataPath::DIRECT ? "direct" : "agent"; }

}  // namespace

Gateway::Gateway(const GatewayOptions& options, const idl::TargetAddress& target, StateCallback on_state)
    : options_(options),
      id_(static_cast<uint32_t>(target.id)),
      uuid_(*UuidFromBytes(target.uuid)),
      on_state_(std::move(on_state)),
      fabric_(options.make_fabric()),
      target_(target),
      thread_([this] { Main(); }) {
  pthread_setname_np(thread_.native_handle(), "weftd/gateway");
}

Gateway::~Gateway() { Stop(false); }

void Gateway::Stop(bool disconnect) {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  if (!disconnect) return;
  auto uri = nvmeof::ParseUri(target().nvme.uris.front());
  if (!uri.ok()) return;
  // Whoever else uses namespaces of this subsystem keeps them.
  auto visible = fabric_->Namespaces(uri->nqn);
  if (!visible.ok() || std::ranges::any_of(*visible, [this](const auto& ns) { return !IsOurs(ns); })) return;
  if (Status s = fabric_->Disconnect(uri->nqn); !s.ok()) LogWarning("{}", s.message());
}

void Gateway::Update(const idl::TargetAddress& target) {
  std::lock_guard lock(mutex_);
  target_ = target;
}

idl::TargetAddress Gateway::target() const {
  std::lock_guard lock(mutex_);
  return target_;
}

bool Gateway::WaitTried(SteadyClock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [this] { return tried_; });
}

std::optional<Address> Gateway::served_at() const {
  std::lock_guard lock(mutex_);
  return served_at_;
}

void Gateway::SetTried() {
  std::lock_guard lock(mutex_);
  tried_ = true;
  changed_.notify_all();
}

bool Gateway::WaitMs(milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stop_; });
}

void Gateway::SetState(const Status& state, const nvmeof::Namespace* ns) {
  bool same;
  {
    std::lock_guard lock(mutex_);
    namespace_ = ns ? *ns : nvmeof::Namespace{};
    same = told_ && told_->ok() == state.ok() && told_->message() == state.message() &&
           told_device_ == namespace_.device_number;
    told_ = state;
    told_device_ = namespace_.device_number;
  }
  if (!same) on_state_(id_, state, ns);
}

// ---- finding the namespace ------------------------------------------------------------------------------

bool Gateway::IsOurs(const nvmeof::Namespace& ns) const {
  idl::TargetAddress now = target();
  nvmeof::NamespaceId id{.uuid = *UuidFromBytes(now.nvme.uuid), .nguid = *UuidFromBytes(now.nvme.nguid)};
  return id.none() ? ns.nsid == static_cast<uint32_t>(now.nvme.nsid) : ns.id == id;
}

Result<nvmeof::Namespace> Gateway::FindNamespace(const nvmeof::Uri& uri) {
  return nvmeof::FindNamespace(fabric_.get(), uri.nqn, [this](const auto& ns) { return IsOurs(ns); });
}

// One path that stands is enough; the others are told of, and tried again while this one serves.
Status Gateway::Connect(const std::vector<nvmeof::Uri>& uris) {
  Status first;
  size_t connected = 0;
  for (const nvmeof::Uri& uri : uris) {
    Status s = fabric_->Connect(uri.endpoint, uri.nqn, options_.host);
    connected += s.ok();
    if (!s.ok() && first.ok()) first = s;
  }
  if (connected > 0 && !first.ok()) LogWarning("target '{}': a path is missing: {}", target().name, first.message());
  return connected > 0 ? Status::Ok() : first;
}

// ---- attending --------------------------------------------------------------------------------------------

// The address from which this host reaches the storage node: on the network that the targets share.
Result<std::string> Gateway::OwnAddress(const std::string& peer) const {
  if (!options_.rdma_address.empty()) return options_.rdma_address;
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (int error = getaddrinfo(peer.c_str(), "9", &hints, &found))
    return Error(EINVAL, "storage node {}: {}", peer, gai_strerror(error));
  int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  // Sends nothing: a datagram socket that is connected has looked up its route.
  bool ok = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
            getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0;
  int error = errno;
  if (fd >= 0) close(fd);
  freeaddrinfo(found);
  char text[NI_MAXHOST] = {};
  if (ok && getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
    return std::string(text);
  return Status::Errno(error, fmt::format("route to storage node {}", peer));
}

// A path and a namespace fail differently: what cannot be reached may come back.
int32_t Gateway::Translate(int32_t result) {
  if (result != -EIO && result != -ENODEV && result != -ENXIO && result != -ENOLINK && result != -ETIMEDOUT)
    return result;
  std::lock_guard lock(mutex_);
  return namespace_.reachable() ? result : -EHOSTDOWN;
}

void Gateway::FillReport(idl::TargetReport* report) {
  std::lock_guard lock(mutex_);
  for (const nvmeof::Path& path : namespace_.paths) {
    idl::NvmePath& out = report->paths.emplace_back();
    out.endpoint = path.endpoint.ToString();
    out.controller = path.controller;
    out.state = path.state;
    out.ana_state = path.ana_state;
  }
  report->data_path = DataPathName(idl::DataPath::AGENT);
}

Status Gateway::Open(const nvmeof::Namespace& ns, const nvmeof::Uri& uri) {
  idl::TargetAddress now = target();
  auto address = OwnAddress(uri.endpoint.host);
  if (!address.ok()) return address.status();
  auto opened =
      target::TargetServer::Open({.cluster = options_.cluster,
                                  .name = now.name,
                                  .backing = {.path = ns.device,
                                              .create = false,
                                              .layout = target::Layout::kPlain,
                                              .command = "weftctl target add"},
                                  .write_cache = ns.write_cache,
                                  .translate = [this](int32_t result) { return Translate(result); },
                                  .cluster_key = options_.cluster_key,
                                  // What it acknowledges is durable: it cannot be started anew and have lost something.
                                  .incarnation = 1,
                                  .listen = {*address, 0},
                                  .address = *address,
                                  .meta = options_.meta,
                                  .zone = now.zone,
                                  .weight = static_cast<uint32_t>(now.weight),
                                  .buffer_bytes = kBufferBytes,
                                  .depth_total = kDepthTotal,
                                  .nvme = std::make_shared<idl::NvmeNamespace>(now.nvme),
                                  .add_to_report = [this](idl::TargetReport* report) { FillReport(report); }});
  if (!opened.ok()) return opened.status();
  if (Uuid uuid = (*opened)->backing().uuid(); uuid != uuid_) {
    return Error(EINVAL, "namespace {} of {} is labelled as target {}, target '{}' is {}: was it exchanged?", ns.nsid,
                 uri.nqn, ToString(uuid), now.name, ToString(uuid_));
  }
  server_ = *std::move(opened);
  {
    std::lock_guard lock(mutex_);
    served_at_ = Address{*address, server_->port()};
  }
  server_->Link({.on_registered = [this] { SetTried(); },
                 .on_refused =
                     [this](const Status& why) {
                       LogError("target '{}': {}", target().name, why.message());
                       std::lock_guard lock(mutex_);
                       refused_ = tried_ = true;
                       changed_.notify_all();
                     }});
  return {};
}

// As long as a path is there, or was there within `detect`.
void Gateway::Watch(const nvmeof::Uri& uri) {
  auto seen = SteadyClock::now();
  bool was_reachable = true;
  while (WaitMs(kLook)) {
    auto found = FindNamespace(uri);
    bool reachable = found.ok() && found->reachable();
    Status state;
    if (!reachable) state = found.ok() ? Error(EHOSTDOWN, "no path to {} is live", uri.nqn) : found.status();
    SetState(state, found.ok() ? &*found : nullptr);
    if (reachable != was_reachable) {
      if (reachable) {
        LogInfo("target '{}': a path to its namespace is live again", target().name);
      } else {
        LogWarning("target '{}': {}", target().name, state.message());
      }
    }
    was_reachable = reachable;
    auto now = SteadyClock::now();
    if (reachable) seen = now;
    if (now - seen > options_.detect) return;
    std::lock_guard lock(mutex_);
    if (refused_) return;
  }
}

Status Gateway::Attend() {
  std::vector<nvmeof::Uri> uris;
  for (const std::string& text : target().nvme.uris) {
    auto uri = nvmeof::ParseUri(text);
    if (!uri.ok()) return uri.status();
    uris.push_back(*uri);
  }
  if (Status s = Connect(uris); !s.ok()) return s;
  auto found = nvmeof::AwaitNamespace(fabric_.get(), uris.front().nqn, [this](const auto& ns) { return IsOurs(ns); },
                                      {.wait = [this](milliseconds time) { return WaitMs(time); }});
  if (!found.ok()) return found.status();
  if (Status s = Open(*found, uris.front()); !s.ok()) return s;
  SetState({}, &*found);
  LogInfo("target '{}' is {}, namespace {} of {}", target().name, found->device, found->nsid, found->nqn);
  Watch(uris.front());
  SetState(Error(EHOSTDOWN, "its gateway has given it up"), nullptr);
  {
    std::lock_guard lock(mutex_);
    served_at_.reset();
  }
  server_ = nullptr;
  return {};
}

void Gateway::Main() {
  milliseconds retry = kRetryMin;
  std::string told;
  do {
    {
      std::lock_guard lock(mutex_);
      if (refused_) break;
    }
    Status s = Attend();
    if (s.ok()) {
      retry = kRetryMin;
      told.clear();
      continue;
    }
    if (s.code() == ECANCELED) break;
    SetState(s, nullptr);
    if (std::exchange(told, s.message()) != s.message()) LogError("target '{}': {}", target().name, s.message());
    SetTried();
    retry = std::min(2 * retry, kRetryMax);
  } while (WaitMs(retry));
}

// ---- all of them --------------------------------------------------------------------------------------------

Gateways::Gateways(GatewayOptions options, Gateway::StateCallback on_state)
    : options_(std::move(options)), on_state_(std::move(on_state)) {}

void Gateways::SetMap(const idl::TargetMap& map) {
  std::set<uint32_t> wanted;
  for (const idl::TargetAddress& target : map.targets) {
    if (!target.__isset.nvme || target.nvme.uris.empty()) continue;
    auto id = static_cast<uint32_t>(target.id);
    wanted.insert(id);
    if (auto known = gateways_.find(id); known != gateways_.end()) {
      known->second->Update(target);
    } else {
      gateways_[id] = std::make_unique<Gateway>(options_, target, on_state_);
    }
  }
  for (auto it = gateways_.begin(); it != gateways_.end();) {
    if (wanted.contains(it->first)) {
      ++it;
      continue;
    }
    it->second->Stop(true);
    it = gateways_.erase(it);
  }
}

void Gateways::WaitTried(milliseconds timeout) {
  auto deadline = SteadyClock::now() + timeout;
  for (auto& [id, gateway] : gateways_) {
    if (!gateway->WaitTried(deadline)) return;
  }
}

void Gateways::Localize(idl::TargetMap* map) const {
  for (idl::TargetAddress& target : map->targets) {
    auto gateway = gateways_.find(static_cast<uint32_t>(target.id));
    if (gateway == gateways_.end()) continue;
    std::optional<Address> at = gateway->second->served_at();
    target.host = at ? at->host : "";
    target.port = at ? at->port : 0;
  }
}

void Gateways::Stop(bool disconnect) {
  for (auto& [id, gateway] : gateways_) gateway->Stop(disconnect);
  gateways_.clear();
}

}  // namespace weft::agent
