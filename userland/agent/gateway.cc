// SPDX-License-Identifier: MIT
#include "userland/agent/gateway.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "nvmeof/await_namespace.h"
#include "thrift-gen/TargetService.h"
#include "userland/agent/device_port.h"
#include "userland/base/log.h"
#include "userland/target/target_server.h"

namespace weft::agent {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr milliseconds kPortPatience{1000};  // for what a killed agent has left
constexpr milliseconds kConnectingLook{20};  // at what connecting has come to
constexpr uint64_t kBufferBytes = 8 << 20;   // for jobs and for copies that are being made, not for every request
constexpr uint32_t kDepthTotal = 256;

class RealServer final : public GatewayServer {
 public:
  explicit RealServer(std::unique_ptr<target::TargetServer> server) : server_(std::move(server)) {}
  Uuid uuid() const override { return server_->backing().uuid(); }
  uint16_t port() const override { return server_->port(); }
  void Link(Callbacks callbacks) override {
    server_->Link({.on_registered = std::move(callbacks.on_registered), .on_refused = std::move(callbacks.on_refused)});
  }

 private:
  const std::unique_ptr<target::TargetServer> server_;
};

}  // namespace

Result<std::unique_ptr<GatewayServer>> OpenTargetServer(const target::TargetServerOptions& options) {
  if (Status s = AwaitNoPort(options.backing.path, kPortPatience); !s.ok()) return s;
  auto opened = target::TargetServer::Open(options);
  if (!opened.ok()) return opened.status();
  return std::unique_ptr<GatewayServer>(std::make_unique<RealServer>(*std::move(opened)));
}

Gateway::Gateway(const GatewayOptions& options, const nvmeof::ReservationClaim& session,
                 const idl::TargetAddress& target, StateCallback on_state)
    : options_(options),
      session_(session),
      id_(static_cast<uint32_t>(target.id)),
      uuid_(*UuidFromBytes(target.uuid)),
      on_state_(std::move(on_state)),
      fabric_(options.make_fabric()),
      connector_(options.make_fabric, options.host),
      leased_(target.leased),
      target_(target),
      thread_([this] { Main(); }) {
  pthread_setname_np(thread_.native_handle(), "weftd/gateway");
}

Gateway::~Gateway() { Stop(); }

void Gateway::BeginStop() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  changed_.notify_all();
}

bool Gateway::Stop(SteadyClock::time_point connected_by) {
  BeginStop();
  if (thread_.joinable()) thread_.join();
  return connector_.LetGo(connected_by);
}

bool Gateway::ended() const {
  std::lock_guard lock(mutex_);
  return ended_;
}

void Gateway::Update(const idl::TargetAddress& target) {
  leased_ = target.leased;
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

void Gateway::Refuse(const Status& why) {
  LogError("target '{}': {}", target().name, why.message());
  std::lock_guard lock(mutex_);
  refused_ = why;
  tried_ = true;
  changed_.notify_all();
}

bool Gateway::WaitMs(milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stop_ || refused_; });
}

Status Gateway::WhyEnded() const {
  std::lock_guard lock(mutex_);
  return refused_ ? *refused_ : Error(EHOSTDOWN, "its gateway has given it up");
}

void Gateway::SetState(const Status& state, const nvmeof::Namespace* ns) {
  bool same;
  {
    std::lock_guard lock(mutex_);
    namespace_ = ns ? *ns : nvmeof::Namespace{};
    same = told_ && told_->ok() == state.ok() && told_->message() == state.message() &&
           told_namespace_.device_number == namespace_.device_number && told_namespace_.paths == namespace_.paths;
    told_ = state;
    told_namespace_ = namespace_;
  }
  if (!same) on_state_(id_, state, ns);
}

// ---- finding the namespace ------------------------------------------------------------------------------

std::string Gateway::nqn() const {
  auto paths = Paths();
  return paths.ok() ? paths->front().nqn : "";
}

bool Gateway::IsOurs(const nvmeof::Namespace& ns) const {
  idl::TargetAddress now = target();
  nvmeof::NamespaceId id{.uuid = *UuidFromBytes(now.nvme.uuid), .nguid = *UuidFromBytes(now.nvme.nguid)};
  return id.none() ? ns.nsid == static_cast<uint32_t>(now.nvme.nsid) : ns.id == id;
}

Result<std::vector<nvmeof::Uri>> Gateway::Paths() const {
  std::vector<nvmeof::Uri> paths;
  for (const std::string& text : target().nvme.uris) {
    auto uri = nvmeof::ParseUri(text);
    if (!uri.ok()) return uri.status();
    if (std::ranges::find(paths, *uri) == paths.end()) paths.push_back(*uri);
  }
  if (paths.empty()) return Error(EINVAL, "it has no path");
  return paths;
}

// Until the first path stands; the others may take as long as the kernel likes.
Status Gateway::Connect(const std::vector<nvmeof::Uri>& paths) {
  connector_.Begin(paths, milliseconds(0));
  for (;;) {
    PathConnector::Outcome outcome = connector_.outcome();
    if (outcome.connected > 0) return {};
    if (outcome.ended) return outcome.error.ok() ? Error(ECANCELED, "given up") : outcome.error;
    if (!WaitMs(kConnectingLook)) return Error(ECANCELED, "given up");
  }
}

// A controller that the kernel connects again by itself is a path, too: what is missing has none.
void Gateway::ConnectMissing(const nvmeof::Namespace& ns) {
  auto paths = Paths();
  if (!paths.ok()) return;
  if (ns.paths.size() >= paths->size()) {
    if (!std::exchange(missing_, "").empty()) LogInfo("target '{}': all its paths are connected", target().name);
    return;
  }
  PathConnector::Outcome outcome = connector_.outcome();
  if (outcome.ended && !outcome.error.ok() && std::exchange(missing_, outcome.error.message()) != missing_)
    LogWarning("target '{}': a path is missing: {}", target().name, missing_);
  connector_.Begin(*paths, options_.times.missing);
}

// Requests wait on any of the namespace's paths for as long as that one's timeouts say, also on one that somebody else
// has connected; and the time that the metadata server lets pass before another client comes is reckoned from ours.
void Gateway::SetTimeouts(const nvmeof::Namespace& ns) {
  std::vector<std::string> controllers;
  for (const nvmeof::Path& path : ns.paths) controllers.push_back(path.controller);
  if (controllers == timed_) return;
  Status s = fabric_->SetTimeouts(ns.nqn, options_.host);
  if (s.ok()) timed_ = std::move(controllers);
  if (std::exchange(timeouts_told_, s.message()) != s.message() && !s.ok())
    LogWarning("target '{}': timeouts of its paths: {}", target().name, s.message());
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
  return Status::Errno(ok ? EADDRNOTAVAIL : error, fmt::format("route to storage node {}", peer));
}

int32_t Gateway::Translate(int32_t result) {
  std::lock_guard lock(mutex_);
  return TranslateDeviceError(result, namespace_.reachable());
}

void Gateway::FillReport(idl::TargetReport* report) {
  report->data_path = options_.data_path ? options_.data_path(id_) : "agent";
  std::lock_guard lock(mutex_);
  report->reserved = reserved_;
  idl::NvmeTraits traits;
  traits.block_bytes = static_cast<int32_t>(namespace_.block_bytes);
  traits.atomic_write_bytes = static_cast<int32_t>(namespace_.atomic_write_bytes);
  traits.write_cache = namespace_.write_cache;
  traits.fua = namespace_.fua;
  report->__set_traits(traits);
  for (const nvmeof::Path& path : namespace_.paths) {
    idl::NvmePath& out = report->paths.emplace_back();
    out.endpoint = path.endpoint.ToString();
    out.controller = path.controller;
    out.state = path.state;
    out.ana_state = path.ana_state;
  }
}

// ---- the reservation ----------------------------------------------------------------------------------------

void Gateway::SetReserved(bool reserved) {
  std::lock_guard lock(mutex_);
  reserved_ = reserved;
}

// It is asked only when this host is not registered.
Status Gateway::SessionLives() {
  SetReserved(false);
  return options_.session_lives ? options_.session_lives(session_.session) : Status::Ok();
}

Status Gateway::Reserve(const nvmeof::Namespace& ns) {
  reservation_ = nullptr;
  SetReserved(false);
  auto port = options_.open_reservation(ns);
  if (!port.ok()) return port.status();
  auto reservation =
      std::make_unique<nvmeof::Reservation>(*std::move(port), ns.name(), session_, [this] { return SessionLives(); });
  auto supported = reservation->Supported();
  if (!supported.ok()) return supported.status().Annotate(ns.name());
  if (!*supported) {
    if (std::exchange(reservation_told_, "none") != "none")
      LogInfo("target '{}': its namespace has no reservations", target().name);
    return {};
  }
  reservation_ = std::move(reservation);
  return KeepReserved();
}

Status Gateway::KeepReserved() {
  auto changes = reservation_->Hold();
  if (!changes.ok()) return changes.status();
  SetReserved(true);
  if (changes->registered || changes->reserved)
    LogInfo("target '{}': its namespace is reserved, with a key of session {}", target().name, session_.session);
  for (uint32_t session : changes->thrown_out)
    LogWarning("target '{}': session {} has ended and was thrown out of its namespace", target().name, session);
  return {};
}

void Gateway::GiveUpReservation() {
  if (!reservation_) return;
  if (Status s = reservation_->Release(); !s.ok())
    LogWarning("target '{}': its namespace stays reserved for session {}: {}", target().name, session_.session,
               s.message());
  reservation_ = nullptr;
}

// ---- serving ------------------------------------------------------------------------------------------------

Status Gateway::Open(const nvmeof::Namespace& ns) {
  idl::TargetAddress now = target();
  auto path = std::ranges::find_if(ns.paths, &nvmeof::Path::usable);
  if (path == ns.paths.end()) return Error(EHOSTDOWN, "no path to {} is live", ns.nqn);
  auto address = OwnAddress(path->endpoint.host);
  if (!address.ok()) return address.status();
  auto opened =
      options_.open_server({.cluster = options_.cluster,
                            .name = now.name,
                            .backing = {.path = ns.device,
                                        .create = false,
                                        .layout = target::Layout::kPlain,
                                        .command = "weftctl target add"},
                            .write_cache = ns.write_cache,
                            .translate = [this](int32_t result) { return Translate(result); },
                            .may_send = [this] { return !options_.lease || !leased_ || options_.lease->holds(); },
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
  if (Uuid uuid = (*opened)->uuid(); uuid != uuid_) {
    GiveUpReservation();  // of all failures the one that makes it somebody else's
    return Error(EINVAL, "{} is labelled as target {}, target '{}' is {}: was it exchanged?", ns.name(), ToString(uuid),
                 now.name, ToString(uuid_));
  }
  server_ = *std::move(opened);
  std::lock_guard lock(mutex_);
  served_at_ = Address{*address, server_->port()};
  return {};
}

// As long as a path is there, or was there within `detect`. Why it has ended.
Status Gateway::Watch(const nvmeof::Namespace& opened) {
  auto seen = SteadyClock::now();
  auto reserved = seen;
  bool was_reachable = true;
  while (WaitMs(options_.times.look)) {
    auto found =
        nvmeof::FindNamespace(fabric_.get(), opened.nqn, [this](const nvmeof::Namespace& ns) { return IsOurs(ns); });
    nvmeof::Namespace ns = found.ok() ? *found : nvmeof::Namespace{};
    // What is open here is the device that has gone.
    if (found.ok() && ns.device_number != opened.device_number)
      return Error(EHOSTDOWN, "{} has come back as {}", ns.name(), ns.device);
    Status state;
    if (!ns.reachable()) state = found.ok() ? Error(EHOSTDOWN, "no path to {} is live", opened.nqn) : found.status();
    SetState(state, found.ok() ? &*found : nullptr);
    ConnectMissing(ns);
    if (found.ok()) SetTimeouts(ns);
    auto now = SteadyClock::now();
    if (state.ok()) seen = now;
    if (now - seen > options_.detect) return state;
    if (state.ok() && reservation_ && now - reserved >= options_.times.reservation) {
      reserved = now;
      Status s = KeepReserved();
      if (s.code() == ESTALE) return s;
      // Whatever else it is, the storage node decides who writes: what is in force there stays.
      if (std::exchange(reservation_told_, s.message()) != s.message() && !s.ok())
        LogWarning("target '{}': {}", target().name, s.message());
    }
    if (std::exchange(was_reachable, state.ok()) == state.ok()) continue;
    if (state.ok()) {
      LogInfo("target '{}': a path to its namespace is live again", target().name);
    } else {
      LogWarning("target '{}': {}", target().name, state.message());
    }
  }
  return WhyEnded();
}

Status Gateway::Attend() {
  auto paths = Paths();
  if (!paths.ok()) return paths.status();
  if (Status s = Connect(*paths); !s.ok()) return s;
  auto found = nvmeof::AwaitNamespace(fabric_.get(), paths->front().nqn,
                                      [this](const nvmeof::Namespace& ns) { return IsOurs(ns); },
                                      {.wait = [this](milliseconds time) { return WaitMs(time); }});
  if (!found.ok()) return found.status();
  if (Status s = Reserve(*found); !s.ok()) return s;
  if (Status s = Open(*found); !s.ok()) return s;
  LogInfo("target '{}' is {}, {}", target().name, found->device, found->name());
  SetState({}, &*found);
  server_->Link({.on_registered = [this] { SetTried(); }, .on_refused = [this](const Status& why) { Refuse(why); }});
  SetState(Watch(*found), nullptr);
  {
    std::lock_guard lock(mutex_);
    served_at_.reset();
  }
  server_ = nullptr;
  return {};
}

void Gateway::Main() {
  const GatewayTimes& times = options_.times;
  milliseconds retry = times.retry_min;
  std::string told;
  do {
    Status s = Attend();
    if (s.ok()) {
      retry = times.retry_min;
      told.clear();
      continue;
    }
    if (s.code() == ECANCELED) break;
    SetState(s, nullptr);
    if (std::exchange(told, s.message()) != s.message()) LogError("target '{}': {}", target().name, s.message());
    SetTried();
    retry = std::min(2 * retry, times.retry_max);
  } while (WaitMs(retry));
  std::lock_guard lock(mutex_);
  ended_ = true;  // a server that goes waits for what it has under way
}

}  // namespace weft::agent
