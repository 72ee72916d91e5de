// SPDX-License-Identifier: MIT
//
// One subsystem with one namespace, and the controllers that hosts have of it. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/tools/resv_target/reservations.h"

namespace resv {

inline constexpr uint32_t kBlockBytes = 512;
inline constexpr uint32_t kTransferBytesMax = 128 << 10;
inline constexpr uint16_t kQueueDepth = 128;
inline constexpr uint16_t kQueuesMax = 16;
inline constexpr uint32_t kNamespace = 1;

struct Controller {
  uint16_t id = 0;
  HostId host{};
  std::string host_nqn;
  uint32_t keep_alive_ms = 0;
  std::mutex mutex;  // guards all below
  uint32_t configuration = 0;
  uint32_t status = 0;
  std::vector<int> sockets;  // of its queues
};

class Subsystem {
 public:
  Subsystem(std::string nqn, HostId uuid, int fd, uint64_t bytes)
      : nqn_(std::move(nqn)), uuid_(uuid), fd_(fd), bytes_(bytes) {}

  const std::string& nqn() const { return nqn_; }
  const HostId& uuid() const { return uuid_; }  // of the namespace
  int fd() const { return fd_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t blocks() const { return bytes_ / kBlockBytes; }
  Reservations& reservations() { return reservations_; }

  std::shared_ptr<Controller> Make(const HostId& host, const std::string& host_nqn, uint32_t keep_alive_ms);
  // Null: there is none, or it is another host's.
  std::shared_ptr<Controller> Find(uint16_t id, const HostId& host);
  // Its connections end.
  void End(const std::shared_ptr<Controller>& controller);

 private:
  const std::string nqn_;
  const HostId uuid_;
  const int fd_;
  const uint64_t bytes_;
  Reservations reservations_;
  std::mutex mutex_;  // guards all below
  uint16_t last_ = 0;
  std::map<uint16_t, std::shared_ptr<Controller>> controllers_;
};

}  // namespace resv
