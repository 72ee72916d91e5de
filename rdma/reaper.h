// SPDX-License-Identifier: MIT
//
// Ends connections on a thread of its own, because a driver may let that wait: rxe destroys a queue pair only when
// the network has dropped the last of its packets, and what is addressed to a host that is gone lies in the
// neighbour table for 3 s (rxe_skb_tx_dtor() in drivers/infiniband/sw/rxe/rxe_net.c of 6.12). Whoever serves other
// connections must not wait with it.
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>

namespace weft::rdma {

// Of this process. Any thread.
class Reaper {
 public:
  static Reaper& Instance();

  // Takes both over; queue_pair may be nullptr. From now on it touches no memory and completes no work. An event of
  // `id` may still be reported: with a context of nullptr.
  void Take(rdma_cm_id* id, ibv_qp* queue_pair);

  // Until all that was taken before has ended. Comes before the end of what queue pairs and ids use: completion and
  // receive queues, event channels.
  void Wait();

 private:
  struct Ending {
    rdma_cm_id* id = nullptr;
    ibv_qp* queue_pair = nullptr;
  };
  Reaper();
  [[noreturn]] void Main();

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<Ending> waiting_;
  uint64_t taken_ = 0;
  uint64_t ended_ = 0;
};

}  // namespace weft::rdma
