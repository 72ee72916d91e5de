// SPDX-License-Identifier: MIT
#include "userland/agent/settler.h"

#include <cerrno>
#include <chrono>
#include <utility>

#include "userland/base/log.h"

namespace weft::agent {
namespace {

// A server that was started anew has forgotten what it was told.
constexpr std::chrono::seconds kRepeat{5};

}  // namespace

Settler::Settler(Kernel kernel, const Address& server, std::shared_ptr<MetaServerHealth> health)
    : kernel_(std::move(kernel)), link_(server, std::move(health)), thread_([this] { Main(); }) {
  pthread_setname_np(thread_.native_handle(), "weftd/settle");
}

Settler::~Settler() { Stop(); }

void Settler::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  link_.Interrupt();
  if (thread_.joinable()) thread_.join();
}

void Settler::Begin(int64_t session, int64_t version, bool needed) {
  std::lock_guard lock(mutex_);
  session_ = session;
  needed_ = needed;
  maps_.clear();
  told_ = version;
  reported_ = -1;
  changed_.notify_all();
}

void Settler::SetNeeded(bool needed) {
  std::lock_guard lock(mutex_);
  needed_ = needed;
  changed_.notify_all();
}

void Settler::Told(const std::vector<weft_chunk>& maps, int64_t version) {
  std::lock_guard lock(mutex_);
  if (needed_) maps_.insert(maps_.end(), maps.begin(), maps.end());
  told_ = std::max(told_, version);
  changed_.notify_all();
}

void Settler::End() {
  std::lock_guard lock(mutex_);
  session_ = 0;
  maps_.clear();
}

bool Settler::Stopping() {
  std::lock_guard lock(mutex_);
  return stopping_;
}

// Twice: what was on its way into the kernel's cache while it was told the first time may be older, and may have been
// gone by until it was told the second time.
Status Settler::SettleKernel(const std::vector<weft_chunk>& maps) {
  for (int round = 0; round < 2; ++round) {
    if (round > 0) {
      if (Status s = kernel_.set_chunks(maps); !s.ok()) return s;
    }
    Status s;
    do {
      if (Stopping()) return Error(ECANCELED, "stopping");
      s = kernel_.settle();
    } while (s.code() == EAGAIN || s.code() == EINTR);
    if (!s.ok()) return s;
  }
  return {};
}

Status Settler::Report(int64_t session, int64_t version) {
  Status s = link_.Call([&](MetaLink::Service& service) { service.chunksSettled(session, version); });
  // The session keeper hears of the session's end as well.
  return s.code() == ESTALE ? Status::Ok() : s;
}

void Settler::Main() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    auto due = [this] { return stopping_ || (session_ != 0 && needed_ && told_ > reported_); };
    bool news = changed_.wait_for(lock, kRepeat, due);
    if (stopping_) return;
    if (session_ == 0 || !needed_) continue;
    int64_t session = session_;
    int64_t version = told_;
    std::vector<weft_chunk> maps = std::exchange(maps_, {});
    lock.unlock();
    Status s = news ? SettleKernel(maps) : Status::Ok();
    if (s.ok()) s = Report(session, version);
    lock.lock();
    if (s.ok()) {
      if (session_ == session) reported_ = std::max(reported_, version);
      continue;
    }
    if (stopping_) return;
    LogError("chunk maps up to version {} are not settled: {}", version, s.message());
    if (session_ == session) maps_.insert(maps_.end(), maps.begin(), maps.end());
    changed_.wait_for(lock, kRepeat, [this] { return stopping_; });
  }
}

}  // namespace weft::agent
