// SPDX-License-Identifier: MIT
//
// The metadata session of the mount: opens it at MOUNT, takes it up again after a restart of the agent,
// renews it by nextEvents in a thread of its own, closes it at UNMOUNT. What it learns goes to the
// listener. Any thread may call.
//
// Before it closes a session this host's own work at targets has ended: the server lets the next client in at once.
// What does not end is left to the server, which waits for the lease and for what was sent before (OpenSessionArgs).
//
//   none --Open--> live --Close--> none          live --ESTALE from the server--> ended --Close/Open-->
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "thrift-gen/meta_types.h"
#include "userland/agent/meta_link.h"
#include "userland/base/uuid.h"

namespace weft::agent {

class SessionListener {
 public:
  virtual ~SessionListener() = default;
  // Block requests may come when this has returned Ok; otherwise the session is closed again.
  virtual Status OnSessionOpen(const idl::Session& session) = 0;
  virtual void OnTargets(const idl::TargetMap& map) = 0;
  // Those that have changed; with them, all changes up to `version` of the pool's map have been told.
  virtual void OnChunks(const std::vector<idl::Chunk>& chunks, int64_t version) = 0;
  // No other client is let in before `until_ns` of CLOCK_BOOTTIME; 0: from now on one may be. The session need not
  // be over by then.
  virtual void OnLease(int64_t until_ns) = 0;
  virtual void OnSessionEnded() = 0;  // by the server
  // It is about to be closed: this host's own work at targets begins nothing new. Called again and again; does not
  // wait. The names of targets where something is still under way; empty: none.
  virtual std::string OnSessionClosing() = 0;
  virtual void OnSessionClosed() = 0;  // by UNMOUNT, or left to the server
};

struct SessionOptions {
  Address server;
  std::string cluster;
  Uuid client{};
  std::string host;
  std::string hostnqn;                      // empty: it uses no NVMe-oF
  std::chrono::milliseconds nvme_drain{0};  // OpenSessionArgs.nvme_drain_ms
};

class SessionKeeper {
 public:
  SessionKeeper(SessionOptions options, std::shared_ptr<MetaServerHealth> health, SessionListener* listener);
  ~SessionKeeper();
  SessionKeeper(const SessionKeeper&) = delete;
  SessionKeeper& operator=(const SessionKeeper&) = delete;

  void Start();  // renewal
  // Leave the session as it is: the next agent takes it up. Who waits in Open or Close for work to end does so no
  // longer from BeginStop on.
  void BeginStop();
  void Stop();

  // All wait until the server has answered. `link` is the calling thread's. Close is Ok, too, when it left the session
  // to the server.
  Result<idl::Session> Open(MetaLink* link);
  Status Reclaim(MetaLink* link, uint64_t session);  // one that the server has ended: Ok, and ended
  Status Close(MetaLink* link);

  int64_t live_session() const { return live_; }  // 0: none, or ended
  // The server said ESTALE to a call with this session.
  void Ended(int64_t session);

 private:
  void Main();
  void Renew(int64_t session, int64_t map_version, int64_t chunks_version);
  void Renewed(int64_t session, int64_t until_ns);
  void PassOn(int64_t session, const idl::Events& events, int64_t map_version, int64_t chunks_version);
  Status Adopt(const idl::Session& session, int64_t asked_ns);
  bool AwaitQuiet(int64_t session, std::unique_lock<std::mutex>* call);

  const SessionOptions options_;
  SessionListener* const listener_;
  MetaLink link_;  // of the renewing thread
  std::atomic<int64_t> live_ = 0;

  std::mutex mount_mutex_;  // one of Open, Reclaim, Close at a time; before call_mutex_
  std::mutex call_mutex_;   // one of them (but while it waits for work to end), Ended, and a new map; before mutex_
  std::mutex mutex_;        // guards all below
  std::condition_variable changed_;
  int64_t known_ = 0;  // to be closed by UNMOUNT, also when it has ended
  int64_t map_version_ = 0;
  int64_t chunks_version_ = 0;
  int32_t lease_ms_ = 0;
  int64_t lease_until_ns_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace weft::agent
