// SPDX-License-Identifier: MIT
#include "userland/target/uring.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "userland/base/log.h"

namespace weft::target {
namespace {

constexpr unsigned kRingEntries = 1024;
constexpr unsigned kCompletionEntries = 16384;
constexpr unsigned kBuffersMax = 16;
constexpr unsigned kClientsMax = 1024;
constexpr uint32_t kWatching = UINT32_MAX;  // in the place of a client's number: an index of watched_

constexpr uint64_t UserData(uint32_t client, uint32_t index) { return static_cast<uint64_t>(client) << 32 | index; }

}  // namespace

Result<std::unique_ptr<Uring>> Uring::Create(bool made_by_its_thread) {
  std::unique_ptr<Uring> uring(new Uring());
  if (Status s = uring->Open(made_by_its_thread); !s.ok()) return s;
  return uring;
}

Uring::~Uring() {
  if (open_) io_uring_queue_exit(&ring_);
}

Status Uring::Open(bool made_by_its_thread) {
  io_uring_params params{};
  // TASKRUN_FLAG: Reap sees that there is something that only a system call brings in, and makes one.
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_TASKRUN_FLAG;
  params.flags |=
      made_by_its_thread ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN : IORING_SETUP_COOP_TASKRUN;
  params.cq_entries = kCompletionEntries;
  int error = -io_uring_queue_init_params(kRingEntries, &ring_, &params);
  if (error == ENOSYS || error == EPERM) {
    return Status::Errno(error, "io_uring is not there; see /proc/sys/kernel/io_uring_disabled");
  }
  if (error) return Status::Errno(error, "io_uring_setup");
  open_ = true;
  error = -io_uring_register_files_sparse(&ring_, kClientsMax);
  if (error) return Status::Errno(error, fmt::format("io_uring: a table of {} files (`ulimit -n`)", kClientsMax));
  fixed_ = io_uring_register_buffers_sparse(&ring_, kBuffersMax) == 0;
  return {};
}

Result<uint32_t> Uring::Join(Client* client, int file) {
  auto free = std::ranges::find(clients_, nullptr);
  auto number = static_cast<uint32_t>(free - clients_.begin());
  if (number == kClientsMax) return Error(ENOSPC, "a thread serves {} devices, which is the most", kClientsMax);
  int result = io_uring_register_files_update(&ring_, number, &file, 1);
  if (result != 1) return Status::Errno(result < 0 ? -result : EIO, "io_uring does not take the file");
  if (free == clients_.end()) {
    clients_.push_back(client);
  } else {
    *free = client;
  }
  return number;
}

void Uring::Leave(uint32_t client) {
  int none = -1;
  io_uring_register_files_update(&ring_, client, &none, 1);
  clients_[client] = nullptr;
}

Status Uring::AddBuffer(void* address, size_t bytes) {
  if (!fixed_ || buffers_.size() == kBuffersMax) return {};
  iovec buffer{address, bytes};
  __u64 tag = 0;
  int result = io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(buffers_.size()), &buffer, &tag, 1);
  if (result < 0) {
    LogWarning("io_uring does not register {} bytes ({}): raise the locked-memory limit (`ulimit -l`) for speed", bytes,
               Status::Errno(-result, "error").message());
    return {};
  }
  buffers_.push_back(buffer);
  return {};
}

int Uring::BufferIndexOf(const uint8_t* data, size_t bytes) const {
  for (size_t i = 0; i < buffers_.size(); i++) {
    const auto* start = static_cast<const uint8_t*>(buffers_[i].iov_base);
    if (data >= start && data + bytes <= start + buffers_[i].iov_len) return static_cast<int>(i);
  }
  return -1;
}

io_uring_sqe* Uring::Next() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (!sqe) {  // more than once: the kernel was short of memory for a moment
    Kick();       // makes room: the kernel copies what it takes
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void Uring::Name(io_uring_sqe* sqe, uint32_t client, uint32_t index) {
  sqe->fd = static_cast<int>(client);
  sqe->flags |= IOSQE_FIXED_FILE;
  io_uring_sqe_set_data64(sqe, UserData(client, index));
}

void Uring::Watch(int fd, bool* ready) {
  watched_.push_back({.fd = fd, .ready = ready, .level = false});
  PreparePoll(watched_.size() - 1);
}

void Uring::WatchLevel(int fd, bool* ready) {
  watched_.push_back({.fd = fd, .ready = ready, .level = true});
  levels_ = true;
}

void Uring::StopWatching() {
  for (Watched& watched : watched_) watched.ready = nullptr;
}

// One request for all readiness to come, until the kernel ends it (Reap then makes another one); of a level: for once,
// which begins with a look.
void Uring::PreparePoll(size_t watched) {
  io_uring_sqe* sqe = Next();
  if (watched_[watched].level) {
    io_uring_prep_poll_add(sqe, watched_[watched].fd, POLLIN);
  } else {
    io_uring_prep_poll_multishot(sqe, watched_[watched].fd, POLLIN);
  }
  watched_[watched].armed = true;
  io_uring_sqe_set_data64(sqe, UserData(kWatching, static_cast<uint32_t>(watched)));
}

void Uring::OnReady(size_t watched, const io_uring_cqe& cqe) {
  if (watched_[watched].ready == nullptr) return;
  *watched_[watched].ready = true;
  bool failed = cqe.res < 0 && cqe.res != -ECANCELED;  // ECANCELED: the thread that waited has ended
  if (failed) LogError("{}", Status::Errno(-cqe.res, "io_uring does not wait for a file").message());
  if (failed && cqe.res != -ENOMEM && cqe.res != -EAGAIN && cqe.res != -EINTR) return;  // it would fail again
  if (watched_[watched].level) {
    watched_[watched].armed = false;
    levels_ = true;
  } else if (cqe.res != -ECANCELED && !(cqe.flags & IORING_CQE_F_MORE)) {
    PreparePoll(watched);
  }
}

void Uring::PrepareLevels() {
  if (!std::exchange(levels_, false)) return;
  for (size_t i = 0; i < watched_.size(); i++) {
    if (watched_[i].level && watched_[i].ready && !watched_[i].armed) PreparePoll(i);
  }
}

// After EAGAIN, EBUSY, EINTR the rest stays in the ring and is taken next time.
void Uring::Kick() {
  if (unsubmitted()) io_uring_submit(&ring_);
}

void Uring::Reap() {
  std::array<io_uring_cqe*, 64> cqes;
  unsigned count;
  do {
    count = io_uring_peek_batch_cqe(&ring_, cqes.data(), cqes.size());
    for (unsigned i = 0; i < count; i++) {
      uint64_t data = io_uring_cqe_get_data64(cqes[i]);
      auto client = static_cast<uint32_t>(data >> 32);
      auto index = static_cast<uint32_t>(data);
      client == kWatching ? OnReady(index, *cqes[i]) : clients_[client]->OnCompletion(index, cqes[i]->res);
    }
    io_uring_cq_advance(&ring_, count);
  } while (count == cqes.size());
}

// The thread that is woken by the storage's interrupt returns with its answer.
void Uring::Wait(int timeout_ms) {
  PrepareLevels();
  if (timeout_ms < 0) {
    io_uring_submit_and_wait(&ring_, 1);
    return;
  }
  io_uring_cqe* cqe;
  __kernel_timespec timeout{.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000LL};
  io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
}

}  // namespace weft::target
