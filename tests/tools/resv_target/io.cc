// SPDX-License-Identifier: MIT
//
// Queue: I/O commands.
#include <fcntl.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "tests/tools/resv_target/queue.h"

namespace resv {
namespace {

constexpr size_t kKeyBytes = 8;
constexpr size_t kReportBytesMin = 64;
constexpr size_t kReportBytesMax = 1 << 20;

uint64_t FirstBlock(const Command& command) { return command.dword10 | uint64_t{command.dword11} << 32; }
uint64_t BlockCount(const Command& command) { return (command.dword12 & 0xffff) + 1; }

const char* NameOf(uint8_t opcode) {
  switch (opcode) {
    case kFlush:
      return "flush";
    case kWrite:
      return "write";
    case kRead:
      return "read";
    case kWriteZeroes:
      return "write zeroes";
    case kDatasetManagement:
      return "dataset management";
    case kReservationRegister:
      return "register";
    case kReservationReport:
      return "report";
    case kReservationAcquire:
      return "acquire";
    case kReservationRelease:
      return "release";
    default:
      return "unknown";
  }
}

}  // namespace

uint16_t Queue::Read(const Command& command, std::vector<uint8_t>* data) {
  uint64_t bytes = BlockCount(command) * kBlockBytes;
  if (bytes > kTransferBytesMax || bytes != command.sgl_length) return kInvalidSglLength;
  data->resize(bytes);
  auto offset = static_cast<off_t>(FirstBlock(command) * kBlockBytes);
  return pread(subsystem_->fd(), data->data(), bytes, offset) == static_cast<ssize_t>(bytes) ? kSuccess
                                                                                             : kInternalError;
}

uint16_t Queue::Write(const Command& command, std::span<const uint8_t> data) {
  if (data.size() != BlockCount(command) * kBlockBytes) return kInvalidSglLength;
  auto offset = static_cast<off_t>(FirstBlock(command) * kBlockBytes);
  ssize_t written = pwrite(subsystem_->fd(), data.data(), data.size(), offset);
  return written == static_cast<ssize_t>(data.size()) ? kSuccess : kInternalError;
}

uint16_t Queue::Zero(uint64_t block, uint64_t count) {
  if (block > subsystem_->blocks() || count > subsystem_->blocks() - block) return kLbaOutOfRange;
  int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  bool ok = count == 0 || fallocate(subsystem_->fd(), mode, static_cast<off_t>(block * kBlockBytes),
                                    static_cast<off_t>(count * kBlockBytes)) == 0;
  return ok ? kSuccess : kInternalError;
}

uint16_t Queue::Discard(const Command& command, std::span<const uint8_t> data) {
  struct Range {
    uint32_t attributes;
    uint32_t count;
    uint64_t block;
  };
  size_t ranges = (command.dword10 & 0xff) + 1;
  if (data.size() < ranges * sizeof(Range)) return kInvalidSglLength;
  if ((command.dword11 & 4) == 0) return kSuccess;  // hints
  for (size_t i = 0; i < ranges; ++i) {
    Range range;
    memcpy(&range, data.data() + i * sizeof range, sizeof range);
    if (uint16_t status = Zero(range.block, range.count); status != kSuccess) return status;
  }
  return kSuccess;
}

Queue::Answer Queue::Reservation(const Command& command, std::span<const uint8_t> data) {
  Reservations& reservations = subsystem_->reservations();
  Answer answer;
  if (command.opcode == kReservationReport) {
    size_t bytes = (size_t{command.dword10} + 1) * 4;
    if (bytes < kReportBytesMin || bytes > kReportBytesMax) return {.status = kInvalidField};
    answer.status = reservations.Report(command.dword11, bytes, &answer.data);
    return answer;
  }
  bool has_two = command.opcode != kReservationRelease;
  if (data.size() < (has_two ? 2 : 1) * kKeyBytes) return {.status = kInvalidSglLength};
  uint64_t keys[2] = {};
  memcpy(keys, data.data(), (has_two ? 2 : 1) * kKeyBytes);
  if (command.opcode == kReservationRegister)
    answer.status = reservations.Register(controller_->host, command.dword10, keys[0], keys[1]);
  else if (command.opcode == kReservationAcquire)
    answer.status = reservations.Acquire(controller_->host, command.dword10, keys[0], keys[1]);
  else
    answer.status = reservations.Release(controller_->host, command.dword10, keys[0]);
  printf("%s action %u keys %#" PRIx64 " %#" PRIx64 " of %s: status %#x\n", NameOf(command.opcode), command.dword10 & 7,
         keys[0], keys[1], controller_->host_nqn.c_str(), answer.status & ~kDoNotRetry);
  return answer;
}

Queue::Answer Queue::Io(const Command& command, std::span<const uint8_t> data) {
  bool for_all = command.opcode == kFlush && command.nsid == UINT32_MAX;
  if (command.nsid != kNamespace && !for_all) return {.status = kInvalidNamespace};
  uint64_t block = FirstBlock(command), count = BlockCount(command);
  bool has_range = command.opcode == kRead || command.opcode == kWrite || command.opcode == kWriteZeroes;
  if (has_range && (block >= subsystem_->blocks() || count > subsystem_->blocks() - block))
    return {.status = kLbaOutOfRange};
  Answer answer;
  auto run = [&]() -> uint16_t {
    switch (command.opcode) {
      case kRead:
        return Read(command, &answer.data);
      case kWrite:
        return Write(command, data);
      case kWriteZeroes:
        return Zero(block, count);
      case kDatasetManagement:
        return Discard(command, data);
      default:
        return fdatasync(subsystem_->fd()) == 0 ? kSuccess : kInternalError;
    }
  };
  switch (command.opcode) {
    case kRead:
    case kWrite:
    case kWriteZeroes:
    case kDatasetManagement:
    case kFlush:
      answer.status = subsystem_->reservations().Access(controller_->host, command.opcode != kRead, run);
      if (answer.status == kReservationConflict)
        printf("conflict: %s of %" PRIu64 " blocks at %" PRIu64 " through controller %u by %s\n",
               NameOf(command.opcode), count, block, controller_->id, controller_->host_nqn.c_str());
      return answer;
    case kReservationRegister:
    case kReservationReport:
    case kReservationAcquire:
    case kReservationRelease:
      return Reservation(command, data);
    default:
      return {.status = kInvalidOpcode};
  }
}

}  // namespace resv
