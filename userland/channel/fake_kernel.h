// SPDX-License-Identifier: MIT
//
// weft.ko in memory, for unit tests of the agent: the ioctls, rings and pool of kmod/uapi/weft.h, with the
// same checks on what the agent hands over. Tests push requests and wait for completions. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "kmod/uapi/weft.h"
#include "userland/channel/device.h"

namespace weft::channel {

class FakeKernel : public Device {
 public:
  struct Options {
    uint32_t depth = 64;
    uint64_t pool_bytes = 8ull << 20;
    uint64_t session = 0;
    uint32_t epoch = 1;
    int attach_error = 0;  // errno that ATTACH fails with
  };
  FakeKernel() : FakeKernel(Options{}) {}
  explicit FakeKernel(Options options);
  ~FakeKernel() override;

  // Device
  Result<int> Open() override;
  int Ioctl(int fd, unsigned long request, void* argument) override;
  Result<void*> Map(int fd, uint64_t offset_bytes, size_t bytes) override;
  void Unmap(void* address, size_t bytes) override {}
  void Close(int fd) override;

  // What the kernel side does. The epoch is filled in by Push, a tag must be unused.
  void Push(uint32_t queue, weft_sqe sqe);
  // Puts a metadata request into its message slot and pushes it. `args` follows weft_meta_req.
  void PushMeta(uint32_t queue, uint64_t tag, uint32_t slot, uint64_t seq, uint32_t op, uint64_t ino,
                std::span<const std::byte> args);
  std::span<std::byte> pool() { return pool_; }
  std::span<std::byte> reply(uint32_t slot);  // the answer's half of a message slot
  static uint64_t MessageOffset(uint32_t slot) { return uint64_t{slot} * (WEFT_META_REQ_BYTES + WEFT_META_REP_BYTES); }

  // Waits until `tag` is completed; the result, or nothing after the timeout.
  std::optional<int32_t> WaitFor(uint64_t tag, std::chrono::milliseconds timeout = std::chrono::seconds(20));
  // Until the agent has taken all that was pushed before and sleeps.
  bool WaitAsleep(uint32_t queue, std::chrono::milliseconds timeout = std::chrono::seconds(20));

  size_t bad_completions() const;
  size_t wakeups() const;
  size_t complete_calls() const;
  bool ready() const;
  std::vector<weft_target_info> targets() const;
  std::vector<weft_chunk> chunks() const;        // all that were told
  std::vector<weft_ioc_device> devices() const;  // likewise
  size_t settles() const;
  uint64_t lease_until_ns() const;
  bool WaitLease(const std::function<bool(uint64_t until_ns)>& wanted,
                 std::chrono::milliseconds timeout = std::chrono::seconds(20));
  bool WaitTargets(size_t count, uint32_t state, std::chrono::milliseconds timeout = std::chrono::seconds(20));
  bool WaitChunks(size_t count, std::chrono::milliseconds timeout = std::chrono::seconds(20));
  size_t open_fds() const;

 private:
  struct alignas(4096) Page {  // the kernel's pool can be read into by O_DIRECT
    std::byte bytes[4096];
  };
  struct Ring {
    int fd = -1;  // an eventfd: readable after a wake-up
    std::unique_ptr<std::byte[]> memory;
    weft_ring* header = nullptr;
  };

  int Attach(weft_ioc_attach* args);
  int AddQueue(int fd, const weft_ioc_queue* args);
  int TakeTargets(const weft_ioc_targets* args);
  int Consume(int fd);
  size_t RingBytes() const;

  const Options options_;
  std::unique_ptr<Page[]> pool_memory_;
  std::span<std::byte> pool_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::set<int> fds_;
  std::map<uint32_t, Ring> rings_;
  std::set<uint64_t> unfinished_;        // tags
  std::map<uint64_t, int32_t> results_;  // by tag
  std::vector<weft_target_info> targets_;
  std::vector<weft_chunk> chunks_;
  std::vector<weft_ioc_device> devices_;
  size_t settles_ = 0;
  uint64_t lease_until_ns_ = 0;
  size_t bad_completions_ = 0, wakeups_ = 0, complete_calls_ = 0;
  bool ready_ = false;
};

}  // namespace weft::channel
