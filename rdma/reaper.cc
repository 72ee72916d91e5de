// SPDX-License-Identifier: MIT
#include "rdma/reaper.h"

#include <pthread.h>

#include <thread>

namespace weft::rdma {
namespace {

// In state RESET a queue pair neither sends nor takes what arrives (InfiniBand Architecture 1.4, 10.3.1).
bool Silence(ibv_qp* queue_pair) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RESET;
  return ibv_modify_qp(queue_pair, &attributes, IBV_QP_STATE) == 0;
}

}  // namespace

Reaper& Reaper::Instance() {
  static auto* reaper = new Reaper();  // never destroyed, as its thread is not
  return *reaper;
}

Reaper::Reaper() {
  std::thread thread([this] { Main(); });
  pthread_setname_np(thread.native_handle(), "weft/reaper");
  thread.detach();
}

void Reaper::Take(rdma_cm_id* id, ibv_qp* queue_pair) {
  id->context = nullptr;
  id->qp = nullptr;  // librdmacm would go on with a handshake that is under way
  if (queue_pair && !Silence(queue_pair)) {
    ibv_destroy_qp(queue_pair);
    queue_pair = nullptr;
  }
  std::lock_guard lock(mutex_);
  waiting_.push_back({id, queue_pair});
  taken_++;
  changed_.notify_all();
}

void Reaper::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this, until = taken_] { return ended_ >= until; });
}

void Reaper::Main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !waiting_.empty(); });
    Ending ending = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    if (ending.queue_pair) ibv_destroy_qp(ending.queue_pair);
    rdma_destroy_id(ending.id);
    lock.lock();
    ended_++;
    changed_.notify_all();
  }
}

}  // namespace weft::rdma
