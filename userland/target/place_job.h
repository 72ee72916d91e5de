// SPDX-License-Identifier: MIT
//
// Work of a target on one of its places, as the metadata server orders it (Job in admin.thrift). Owned and driven by
// JobRunner, on the engine thread.
//
//   Start -> Step ... (whenever something may have changed) -> ended, with a result
//   CallOff: nothing new is begun; what is under way ends. Then ended, and nobody asks for the result.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "rdma/block_target.h"
#include "rdma/places.h"
#include "thrift-gen/admin_types.h"
#include "userland/target/peer_reader.h"
#include "userland/target/token_bucket.h"

namespace weft::target {

// What jobs work with. All of it outlives them.
struct JobHost {
  rdma::BlockTarget* engine = nullptr;
  rdma::Places* places = nullptr;
  PeerReader* peers = nullptr;
  std::function<void(rdma::BlockRange place)> on_scrub;  // may be empty
  TokenBucket resync;
  TokenBucket scrub;
  uint64_t now_ms = 0;            // read once a turn
  uint64_t wake_ms = UINT64_MAX;  // when a job that waits for time wants its Step; a job lowers it in Step

  bool Take(TokenBucket* bucket, uint64_t bytes) {
    if (bucket->Take(bytes, now_ms)) return true;
    WakeAt(bucket->ready_ms());
    return false;
  }
  void WakeAt(uint64_t ms) { wake_ms = wake_ms < ms ? wake_ms : ms; }
};

// The result of a job, so far that it went well.
idl::JobResult ResultFor(const idl::Job& job);

class PlaceJob {
 public:
  PlaceJob(JobHost* host, const idl::Job& job);
  virtual ~PlaceJob();
  PlaceJob(const PlaceJob&) = delete;
  PlaceJob& operator=(const PlaceJob&) = delete;

  virtual void Start() = 0;
  virtual void Step() = 0;
  virtual void CallOff() { stopping_ = true; }
  virtual bool idle() const = 0;  // nothing is under way

  bool ended() const { return (stopping_ || finished_) && idle(); }
  bool called_off() const { return stopping_ && !finished_; }
  const idl::Job& job() const { return job_; }
  const idl::JobResult& result() const { return result_; }
  uint64_t done_bytes() const { return done_bytes_; }

 protected:
  bool UsePeers();                                // false: failed, and has ended
  void Finish() { finished_ = true; }             // with what is in the result
  void Fail(int error, std::string message);      // the first one counts; nothing new is to be begun
  void FailAt(std::string_view what, int error);  // "copy of chunk 7: WHAT: why"
  bool failed() const { return result_.error != 0; }
  uint64_t offset() const { return static_cast<uint64_t>(job_.offset); }
  uint64_t bytes() const { return static_cast<uint64_t>(job_.bytes); }
  uint32_t version() const { return static_cast<uint32_t>(job_.version); }
  std::string Name() const;  // "copy of chunk 7"

  JobHost* const host_;
  const idl::Job job_;
  idl::JobResult result_;
  uint64_t done_bytes_ = 0;
  bool stopping_ = false;
  bool finished_ = false;

 private:
  size_t using_ = 0;  // so many of the job's peers
};

}  // namespace weft::target
