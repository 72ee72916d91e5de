// SPDX-License-Identifier: MIT
//
// One io_uring of a thread, shared by the devices that it serves. It is also what the thread sleeps in: a request that
// ends and a descriptor that becomes readable wake it alike, and what was prepared is submitted on the way. That
// thread's alone.
#pragma once

#include <liburing.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "userland/base/status.h"

namespace weft::target {

class Uring {
 public:
  class Client {
   public:
    // The operation `index` of this client has ended.
    virtual void OnCompletion(uint32_t index, int32_t result) = 0;

   protected:
    ~Client() = default;
  };

  // made_by_its_thread: the one that calls this uses it, which the kernel can make something of.
  static Result<std::unique_ptr<Uring>> Create(bool made_by_its_thread = false);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // `file` outlives the membership, `client` as well; at most 1024. The number that the client has from now on, which
  // is also that of its file in the ring.
  Result<uint32_t> Join(Client* client, int file);
  void Leave(uint32_t client);  // nothing of it is under way

  // Its pages are looked up once. At most 16 times; more, or without the right to lock memory, change nothing.
  Status AddBuffer(void* address, size_t bytes);
  int BufferIndexOf(const uint8_t* data, size_t bytes) const;  // -1: not registered

  // An entry to be prepared; then it is named.
  io_uring_sqe* Next();
  void Name(io_uring_sqe* sqe, uint32_t client, uint32_t index);

  // From now on Wait ends when `fd` becomes readable, and Wait or Reap sets *ready; see BlockBackend::Watch.
  void Watch(int fd, bool* ready);
  // The same for one that stays readable until somebody has done something about it: it is looked at anew whenever
  // there is Wait.
  void WatchLevel(int fd, bool* ready);
  // What was watched is left alone from now on: its owners may go, and Reap and Wait still be called.
  void StopWatching();

  void Kick();                                                      // submits what was prepared
  void Reap();                                                      // calls OnCompletion for all that has ended
  bool has_ended() const { return io_uring_cq_ready(&ring_) > 0; }  // something to reap
  // Submits what was prepared and sleeps until there is something to reap. -1: for ever.
  void Wait(int timeout_ms);
  bool unsubmitted() const { return io_uring_sq_ready(&ring_) > 0; }

 private:
  struct Watched {
    int fd;
    bool* ready;  // nullptr: not any more
    bool level;
    bool armed = false;
  };
  Uring() = default;
  Status Open(bool made_by_its_thread);
  void PreparePoll(size_t watched);
  void PrepareLevels();
  void OnReady(size_t watched, const io_uring_cqe& cqe);

  io_uring ring_{};
  bool open_ = false;
  bool fixed_ = false;  // buffers may be registered
  std::vector<iovec> buffers_;
  std::vector<Client*> clients_;  // by number; nullptr: free
  std::vector<Watched> watched_;
  bool levels_ = false;  // some of watched_ are, and not armed
};

}  // namespace weft::target
