// SPDX-License-Identifier: MIT
//
// One connection of a host: the admin queue of a controller, or one of its I/O queues. A thread of its own, which takes
// one PDU after the other and carries out each command when all of its data is there.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/tools/resv_target/subsystem.h"
#include "tests/tools/resv_target/wire.h"

namespace resv {

class Queue {
 public:
  Queue(Subsystem* subsystem, int socket) : subsystem_(subsystem), socket_(socket) {}
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  void Run();  // until the connection ends

 private:
  struct Answer {
    uint16_t status = kSuccess;
    uint64_t result = 0;
    std::vector<uint8_t> data = {};  // to the host
  };
  struct Pending {  // waits for its data
    Command command;
    std::vector<uint8_t> data;
    size_t received = 0;
  };

  // PDUs. False: the connection is of no use any more.
  bool Initialize();
  bool TakePdu();
  bool TakeCommand(std::span<const uint8_t> pdu, const PduHeader& header);
  bool TakeData(std::span<const uint8_t> pdu, const PduHeader& header);
  bool Ask(const Command& command);
  bool Carry(const Command& command, std::span<const uint8_t> data);
  bool Send(const Command& command, const Answer& answer);
  bool ReadAll(void* data, size_t bytes) const;
  bool WriteAll(const void* data, size_t bytes) const;

  // Commands. Nothing: it is answered some other time.
  std::optional<Answer> Execute(const Command& command, std::span<const uint8_t> data);
  Answer Fabrics(const Command& command, std::span<const uint8_t> data);
  Answer Connect(const Command& command, std::span<const uint8_t> data);
  Answer PropertyGet(const Command& command);
  Answer PropertySet(const Command& command);
  std::optional<Answer> Admin(const Command& command);
  Answer Identify(const Command& command);
  static Answer GetLogPage(const Command& command);
  static Answer SetFeatures(const Command& command);
  Answer GetFeatures(const Command& command);
  std::vector<uint8_t> DescribeController() const;
  std::vector<uint8_t> DescribeNamespace() const;
  Answer Io(const Command& command, std::span<const uint8_t> data);
  uint16_t Read(const Command& command, std::vector<uint8_t>* data);
  uint16_t Write(const Command& command, std::span<const uint8_t> data);
  uint16_t Zero(uint64_t block, uint64_t count);
  uint16_t Discard(const Command& command, std::span<const uint8_t> data);
  Answer Reservation(const Command& command, std::span<const uint8_t> data);

  Subsystem* const subsystem_;
  const int socket_;
  std::shared_ptr<Controller> controller_;  // null: not connected to one yet
  bool is_admin_ = false;
  uint16_t depth_ = 1;
  uint16_t taken_ = 0;
  uint32_t async_events_ = 0;
  uint16_t last_transfer_ = 0;
  std::map<uint16_t, Pending> pending_;  // by transfer
};

}  // namespace resv
