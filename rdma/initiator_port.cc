// SPDX-License-Identifier: MIT
#include "rdma/initiator_port.h"

#include <algorithm>

namespace weft::rdma {
namespace {

constexpr uint32_t kCompletionEntries = 16384;

}  // namespace

Result<InitiatorPort*> InitiatorPorts::Take(Device* device, uint32_t entries) {
  std::shared_ptr<Memory> pool;
  for (const auto& port : ports_) {
    if (port->device != device) continue;
    if (port->free_entries >= entries) {
      port->free_entries -= entries;
      return port.get();
    }
    pool = port->pool;
  }
  if (!pool) {
    Result<std::unique_ptr<Memory>> memory = device->RegisterMemory(memory_, memory_bytes_, true);
    if (!memory.ok()) return memory.status();
    pool = *std::move(memory);
  }
  uint32_t depth = std::max(kCompletionEntries, entries);
  Result<std::unique_ptr<CompletionQueue>> queue = device->CreateCompletionQueue(depth);
  if (!queue.ok()) return queue.status();
  auto port = std::make_unique<InitiatorPort>();
  port->device = device;
  port->pool = std::move(pool);
  port->completions = *std::move(queue);
  port->free_entries = depth - entries;
  ports_.push_back(std::move(port));
  return ports_.back().get();
}

}  // namespace weft::rdma
