// SPDX-License-Identifier: MIT
#include "tests/tools/resv_target/subsystem.h"

#include <sys/socket.h>

namespace resv {

std::shared_ptr<Controller> Subsystem::Make(const HostId& host, const std::string& host_nqn, uint32_t keep_alive_ms) {
  auto controller = std::make_shared<Controller>();
  controller->host = host;
  controller->host_nqn = host_nqn;
  controller->keep_alive_ms = keep_alive_ms;
  std::lock_guard lock(mutex_);
  controller->id = ++last_;
  controllers_[controller->id] = controller;
  return controller;
}

std::shared_ptr<Controller> Subsystem::Find(uint16_t id, const HostId& host) {
  std::lock_guard lock(mutex_);
  auto found = controllers_.find(id);
  return found == controllers_.end() || found->second->host != host ? nullptr : found->second;
}

void Subsystem::End(const std::shared_ptr<Controller>& controller) {
  {
    std::lock_guard lock(mutex_);
    controllers_.erase(controller->id);
  }
  std::lock_guard lock(controller->mutex);
  for (int socket : controller->sockets) shutdown(socket, SHUT_RDWR);
}

}  // namespace resv
