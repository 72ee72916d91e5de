// SPDX-License-Identifier: MIT
#include "userland/agent/session_keeper.h"

#include <algorithm>
#include <cerrno>

#include "thrift-gen/meta_constants.h"
#include "userland/agent/lease.h"
#include "userland/agent/target_table.h"
#include "userland/base/log.h"

namespace weft::agent {
namespace {

constexpr int32_t kLeaseMinMs = 300;
constexpr int32_t kRenewalsPerLease = 3;
constexpr std::chrono::milliseconds kQuietLook{20};        // at work that is to end
constexpr std::chrono::milliseconds kGivenUpMargin{1000};  // until what the kernel has given up has ended here, too

// The server counts from when it hears of the client, which is later; its clock may be faster, which is what is left
// out.
int64_t LeaseEndNs(int64_t asked_ns, int32_t lease_ms) {
  constexpr int64_t kNsPerMs = 1'000'000;
  constexpr int64_t kDrift = 50;
  return asked_ns + (lease_ms - lease_ms / kDrift) * kNsPerMs;
}

// nextEvents answers after wait_ms; a server that has not answered by half a lease later is asked again.
int ReplyMs(int32_t wait_ms, int32_t lease_ms) { return wait_ms + lease_ms / 2; }

}  // namespace

SessionKeeper::SessionKeeper(SessionOptions options, std::shared_ptr<MetaServerHealth> health,
                             SessionListener* listener)
    : options_(std::move(options)), listener_(listener), link_(options_.server, std::move(health)) {}

SessionKeeper::~SessionKeeper() { Stop(); }

void SessionKeeper::Start() {
  thread_ = std::thread([this] { Main(); });
  pthread_setname_np(thread_.native_handle(), "weftd/session");
}

void SessionKeeper::BeginStop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  link_.Interrupt();
}

void SessionKeeper::Stop() {
  BeginStop();
  if (thread_.joinable()) thread_.join();
}

Result<idl::Session> SessionKeeper::Open(MetaLink* link) {
  std::lock_guard mount(mount_mutex_);
  std::unique_lock call(call_mutex_);
  idl::OpenSessionArgs args;
  args.__set_protocol(idl::g_meta_constants.PROTOCOL_VERSION);
  args.__set_cluster(options_.cluster);
  args.__set_client(ToBytes(options_.client));
  args.__set_host(options_.host);
  args.__set_hostnqn(options_.hostnqn);
  args.__set_nvme_drain_ms(static_cast<int32_t>(options_.nvme_drain.count()));
  int64_t asked_ns = 0;
  Result<idl::Session> session = link->Call([&](MetaLink::Service& service) {
    asked_ns = BoottimeNs();
    idl::Session opened;
    service.openSession(opened, args);
    return opened;
  });
  if (!session.ok()) return session;
  if (Status s = Adopt(*session, asked_ns); !s.ok()) {
    if (AwaitQuiet(session->id, &call)) {
      Status closed = link->Call([&](MetaLink::Service& service) { service.closeSession(session->id); });
      if (!closed.ok()) LogWarning("closing session {}: {}", session->id, closed.message());
    }
    listener_->OnSessionClosed();
    return s;
  }
  LogInfo("session {} is open: {} targets, pool of {} blocks", session->id, session->targets.targets.size(),
          session->pool_blocks);
  return session;
}

Status SessionKeeper::Reclaim(MetaLink* link, uint64_t id) {
  std::lock_guard mount(mount_mutex_);
  std::lock_guard call(call_mutex_);
  int64_t asked_ns = 0;
  Result<idl::Session> session = link->Call([&](MetaLink::Service& service) {
    asked_ns = BoottimeNs();
    idl::Session reclaimed;
    service.reclaimSession(reclaimed, static_cast<int64_t>(id));
    return reclaimed;
  });
  if (session.ok()) {
    LogInfo("session {} goes on after a restart of the agent", id);
    // The kernel's maps are of the time of the agent before: it is told of all changes.
    session->chunks_version = 0;
    return Adopt(*session, asked_ns);
  }
  if (session.status().code() != ESTALE) return session.status();
  LogError("session {}: {}; unmount and mount again", id, session.status().message());
  {
    std::lock_guard lock(mutex_);
    known_ = static_cast<int64_t>(id);
  }
  listener_->OnSessionEnded();
  return {};
}

Status SessionKeeper::Close(MetaLink* link) {
  std::lock_guard mount(mount_mutex_);
  std::unique_lock call(call_mutex_);
  int64_t session;
  {
    std::lock_guard lock(mutex_);
    session = known_;
  }
  if (session == 0) return {};
  bool quiet = AwaitQuiet(session, &call);
  if (quiet) {
    Status s = link->Call([&](MetaLink::Service& service) { service.closeSession(session); });
    // ESTALE: it had ended, which is what closing is for.
    if (!s.ok() && s.code() != ESTALE) return s;
  }
  {
    std::lock_guard lock(mutex_);
    known_ = 0;
    live_ = 0;
  }
  link_.Interrupt();  // ends the poll of this session; the thread resumes
  listener_->OnSessionClosed();
  if (quiet) LogInfo("session {} is closed", session);
  return {};
}

// The session is renewed meanwhile. False: something is still under way, and may take effect later.
bool SessionKeeper::AwaitQuiet(int64_t session, std::unique_lock<std::mutex>* call) {
  auto until = std::chrono::steady_clock::now() + options_.nvme_drain + kGivenUpMargin;
  for (;;) {
    std::string busy = listener_->OnSessionClosing();
    if (busy.empty()) return true;
    bool late = std::chrono::steady_clock::now() >= until;
    call->unlock();
    bool stopping;
    {
      std::unique_lock lock(mutex_);
      stopping =
          changed_.wait_for(lock, late ? std::chrono::milliseconds(0) : kQuietLook, [this] { return stopping_; });
    }
    call->lock();
    if (!late && !stopping) continue;
    LogWarning(
        "session {} is left to the metadata server, which ends it later: requests to {} are still under way{}; another "
        "host can mount when its lease has run out and they cannot take effect any more",
        session, busy, stopping ? ", and weftd is being stopped" : "");
    return false;
  }
}

Status SessionKeeper::Adopt(const idl::Session& session, int64_t asked_ns) {
  Result<std::vector<rdma::TargetEndpoint>> endpoints = EndpointsOf(session.targets);
  if (!endpoints.ok()) return endpoints.status();
  if (session.id <= 0) return Error(EIO, "session: id {}", session.id);
  if (session.lease_ms < kLeaseMinMs) return Error(EIO, "session: lease_ms {}", session.lease_ms);
  // First: there is work to do at the targets before anybody reads or writes.
  int64_t until_ns = LeaseEndNs(asked_ns, session.lease_ms);
  listener_->OnLease(until_ns);
  if (Status s = listener_->OnSessionOpen(session); !s.ok()) return s;
  std::lock_guard lock(mutex_);
  known_ = session.id;
  map_version_ = session.targets.version;
  chunks_version_ = session.chunks_version;
  lease_ms_ = session.lease_ms;
  lease_until_ns_ = until_ns;
  live_ = session.id;
  changed_.notify_all();
  return {};
}

void SessionKeeper::Ended(int64_t session) {
  std::lock_guard call(call_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (session == 0 || live_ != session) return;  // said already
    live_ = 0;
  }
  LogError("session {} was ended by the metadata server {}; unmount and mount again", session,
           options_.server.ToString());
  listener_->OnSessionEnded();
}

void SessionKeeper::Main() {
  for (;;) {
    int64_t session, version, chunks_version;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || live_ != 0; });
      if (stopping_) return;
      session = live_;
      version = map_version_;
      chunks_version = chunks_version_;
    }
    Renew(session, version, chunks_version);
  }
}

void SessionKeeper::Renew(int64_t session, int64_t version, int64_t chunks_version) {
  int32_t lease_ms;
  bool in_lease;
  {
    std::lock_guard lock(mutex_);
    lease_ms = lease_ms_;
    in_lease = BoottimeNs() < lease_until_ns_;
  }
  int32_t wait_ms = lease_ms / kRenewalsPerLease;
  int64_t asked_ns = 0;
  Result<idl::Events> events = link_.Call(
      [&](MetaLink::Service& service) {
        asked_ns = BoottimeNs();
        idl::Events next;
        service.nextEvents(next, session, version, in_lease ? wait_ms : 0, chunks_version);
        return next;
      },
      ReplyMs(wait_ms, lease_ms));
  if (!events.ok()) {
    if (events.status().code() == ESTALE) return Ended(session);
    std::unique_lock lock(mutex_);
    if (events.status().code() == ECANCELED) {
      if (!stopping_) link_.Resume();  // Close interrupted it
      return;
    }
    LogError("renewing session {}: {}", session, events.status().message());
    // An answer, but no sensible one: ask again after a while, not at once.
    changed_.wait_for(lock, std::chrono::milliseconds(wait_ms), [&] { return stopping_ || live_ != session; });
    return;
  }
  Renewed(session, LeaseEndNs(asked_ns, lease_ms));
  PassOn(session, *events, version, chunks_version);
}

void SessionKeeper::Renewed(int64_t session, int64_t until_ns) {
  std::lock_guard call(call_mutex_);
  if (live_ != session) return;
  {
    std::lock_guard lock(mutex_);
    lease_until_ns_ = until_ns;
  }
  listener_->OnLease(until_ns);
}

void SessionKeeper::PassOn(int64_t session, const idl::Events& events, int64_t map_version, int64_t chunks_version) {
  bool new_map = events.__isset.targets && events.targets.version > map_version;
  bool new_chunks = events.__isset.chunks && !events.chunks.empty();
  std::lock_guard call(call_mutex_);
  if (live_ != session) return;
  if (auto endpoints = EndpointsOf(events.targets); new_map && !endpoints.ok()) {
    LogError("metadata server {}: {}", options_.server.ToString(), endpoints.status().message());
  } else if (new_map) {
    listener_->OnTargets(events.targets);  // first: chunks may name targets that are new
  }
  if (new_chunks || events.chunks_version > chunks_version) listener_->OnChunks(events.chunks, events.chunks_version);
  std::lock_guard lock(mutex_);
  if (new_map) map_version_ = std::max(map_version_, events.targets.version);
  // Also without chunks: those that had changed may be gone.
  chunks_version_ = std::max(chunks_version_, events.chunks_version);
}

}  // namespace weft::agent
