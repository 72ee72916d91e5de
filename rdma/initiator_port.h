// SPDX-License-Identifier: MIT
//
// What all connections of an initiator over one RDMA device share: the registration of the buffer pool
// and a completion queue. Owned and called by the initiator's thread.
#pragma once

#include <memory>
#include <vector>

#include "rdma/verbs.h"

namespace weft::rdma {

struct InitiatorPort {
  Device* device = nullptr;
  std::shared_ptr<Memory> pool;  // of all ports of the device
  std::unique_ptr<CompletionQueue> completions;
  uint32_t free_entries = 0;  // of the completion queue, not promised to a connection
  bool armed = false;
};

// The ports of one initiator: a device gets another one when its completion queue is full.
class InitiatorPorts {
 public:
  InitiatorPorts(void* memory, size_t memory_bytes) : memory_(memory), memory_bytes_(memory_bytes) {}
  // A port of `device` with `entries` to give away, and takes them. Registers the memory the first time.
  Result<InitiatorPort*> Take(Device* device, uint32_t entries);
  void GiveBack(InitiatorPort* port, uint32_t entries) { port->free_entries += entries; }
  const std::vector<std::unique_ptr<InitiatorPort>>& all() const { return ports_; }

 private:
  void* memory_;
  size_t memory_bytes_;
  std::vector<std::unique_ptr<InitiatorPort>> ports_;
};

}  // namespace weft::rdma
