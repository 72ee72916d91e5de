// SPDX-License-Identifier: MIT
#include "tests/tools/resv_target/queue.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace resv {
namespace {

constexpr size_t kPduBytesMax = 1 << 20;
constexpr size_t kPendingMax = kQueueDepth;

template <typename T>
T Take(std::span<const uint8_t> pdu, size_t offset = 0) {
  T value;
  memcpy(&value, pdu.data() + offset, sizeof value);
  return value;
}

// Bits 0 and 1 of an opcode say where data goes.
bool SendsData(const Command& command) {
  if (command.opcode == kFabrics) return (command.nsid & 1) != 0;
  return (command.opcode & 1) != 0;
}

}  // namespace

Queue::~Queue() {
  if (controller_) {
    {
      std::lock_guard lock(controller_->mutex);
      std::erase(controller_->sockets, socket_);
    }
    if (is_admin_) subsystem_->End(controller_);
  }
  close(socket_);
}

bool Queue::ReadAll(void* data, size_t bytes) const {
  return bytes == 0 || recv(socket_, data, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
}

bool Queue::WriteAll(const void* data, size_t bytes) const {
  const auto* from = static_cast<const uint8_t*>(data);
  while (bytes > 0) {
    ssize_t sent = send(socket_, from, bytes, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    from += sent;
    bytes -= static_cast<size_t>(sent);
  }
  return true;
}

void Queue::Run() {
  if (!Initialize()) return;
  while (TakePdu()) {
  }
}

bool Queue::Initialize() {
  InitializePdu request;
  if (!ReadAll(&request, sizeof request)) return false;
  if (request.header.type != kIcReq || request.header.bytes != sizeof request || request.format != 0) return false;
  InitializePdu response{};
  response.header = {kIcResp, 0, sizeof response, 0, sizeof response};
  response.data_max = kTransferBytesMax;  // and no digests
  return WriteAll(&response, sizeof response);
}

bool Queue::TakePdu() {
  PduHeader header;
  if (!ReadAll(&header, sizeof header)) return false;
  if (header.bytes < sizeof header || header.bytes > kPduBytesMax) return false;
  std::vector<uint8_t> pdu(header.bytes);
  memcpy(pdu.data(), &header, sizeof header);
  if (!ReadAll(pdu.data() + sizeof header, pdu.size() - sizeof header)) return false;
  switch (header.type) {
    case kCommand:
      return TakeCommand(pdu, header);
    case kHostData:
      return TakeData(pdu, header);
    default:
      return false;
  }
}

bool Queue::TakeCommand(std::span<const uint8_t> pdu, const PduHeader& header) {
  if (pdu.size() < sizeof header + sizeof(Command)) return false;
  auto command = Take<Command>(pdu, sizeof header);
  taken_ = static_cast<uint16_t>((taken_ + 1) % depth_);
  if (!SendsData(command) || command.sgl_length == 0) return Carry(command, {});
  if (command.sgl_type == kSglTransport) return Ask(command);
  size_t begin = header.data_offset;
  if (command.sgl_type != kSglInCapsule || begin < sizeof header + sizeof(Command) ||
      begin + command.sgl_length > pdu.size())
    return Send(command, {.status = kInvalidSglLength});
  return Carry(command, pdu.subspan(begin, command.sgl_length));
}

bool Queue::Ask(const Command& command) {
  if (command.sgl_length > kTransferBytesMax || pending_.size() == kPendingMax)
    return Send(command, {.status = kInvalidSglLength});
  uint16_t transfer = ++last_transfer_;
  pending_[transfer] = {command, std::vector<uint8_t>(command.sgl_length)};
  DataPdu ask{};
  ask.header = {kReadyToTransfer, 0, sizeof ask, 0, sizeof ask};
  ask.command = command.id;
  ask.transfer = transfer;
  ask.length = command.sgl_length;
  return WriteAll(&ask, sizeof ask);
}

bool Queue::TakeData(std::span<const uint8_t> pdu, const PduHeader& header) {
  if (pdu.size() < sizeof(DataPdu)) return false;
  auto data = Take<DataPdu>(pdu);
  auto found = pending_.find(data.transfer);
  if (found == pending_.end() || header.data_offset < sizeof data) return false;
  Pending& pending = found->second;
  if (header.data_offset + uint64_t{data.length} > pdu.size() || data.offset != pending.received ||
      data.length > pending.data.size() - pending.received)
    return false;
  std::copy_n(pdu.begin() + header.data_offset, data.length,
              pending.data.begin() + static_cast<ptrdiff_t>(pending.received));
  pending.received += data.length;
  if (pending.received < pending.data.size()) return true;
  Pending complete = std::move(pending);
  pending_.erase(found);
  return Carry(complete.command, complete.data);
}

bool Queue::Carry(const Command& command, std::span<const uint8_t> data) {
  std::optional<Answer> answer = Execute(command, data);
  return !answer || Send(command, *answer);
}

bool Queue::Send(const Command& command, const Answer& answer) {
  if (answer.status == kSuccess && !answer.data.empty()) {
    DataPdu data{};
    auto bytes = static_cast<uint32_t>(answer.data.size());
    data.header = {kControllerData, kPduLast, sizeof data, sizeof data, static_cast<uint32_t>(sizeof data) + bytes};
    data.command = command.id;
    data.length = bytes;
    if (!WriteAll(&data, sizeof data) || !WriteAll(answer.data.data(), bytes)) return false;
  }
  struct {
    PduHeader header;
    Completion completion;
  } response{};
  response.header = {kResponse, 0, sizeof response, 0, sizeof response};
  response.completion.result = answer.result;
  response.completion.queue_head = taken_;
  response.completion.command = command.id;
  response.completion.status = static_cast<uint16_t>(answer.status << 1);
  return WriteAll(&response, sizeof response);
}

std::optional<Queue::Answer> Queue::Execute(const Command& command, std::span<const uint8_t> data) {
  if (command.opcode == kFabrics) return Fabrics(command, data);
  if (!controller_) return Answer{.status = kCommandSequence};
  if (is_admin_) return Admin(command);
  return Io(command, data);
}

// ---- fabrics commands -------------------------------------------------------------------------------------

Queue::Answer Queue::Fabrics(const Command& command, std::span<const uint8_t> data) {
  auto type = static_cast<uint8_t>(command.nsid);
  if (type == kConnect) return Connect(command, data);
  if (!controller_ || !is_admin_) return {.status = kCommandSequence};
  if (type == kPropertyGet) return PropertyGet(command);
  if (type == kPropertySet) return PropertySet(command);
  return {.status = kInvalidOpcode};
}

Queue::Answer Queue::Connect(const Command& command, std::span<const uint8_t> data) {
  if (controller_) return {.status = kCommandSequence};
  if (data.size() != sizeof(ConnectData)) return {.status = kInvalidSglLength};
  auto connect = Take<ConnectData>(data);
  auto text = [](const char* from) { return std::string(from, strnlen(from, sizeof connect.subsystem)); };
  if (text(connect.subsystem) != subsystem_->nqn()) return {.status = kConnectInvalid};
  auto queue = static_cast<uint16_t>(command.dword10 >> 16);
  auto depth = static_cast<uint16_t>((command.dword11 & 0xffff) + 1);
  if (depth < 2 || depth > kQueueDepth || queue > kQueuesMax) return {.status = kConnectInvalid};
  is_admin_ = queue == 0;
  controller_ = is_admin_ ? subsystem_->Make(connect.host, text(connect.host_nqn), command.dword12)
                          : subsystem_->Find(connect.controller, connect.host);
  if (!controller_) return {.status = kConnectInvalid};
  depth_ = depth;
  if (is_admin_) {
    printf("controller %u of %s\n", controller_->id, controller_->host_nqn.c_str());
    // Who is silent for longer has gone.
    uint32_t silent_ms = 2 * controller_->keep_alive_ms;
    timeval silent = {silent_ms / 1000, static_cast<suseconds_t>(silent_ms % 1000 * 1000)};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &silent, sizeof silent);
  }
  std::lock_guard lock(controller_->mutex);
  controller_->sockets.push_back(socket_);
  return {.result = controller_->id};
}

namespace {

constexpr uint32_t kCapabilities = 0x00;
constexpr uint32_t kVersion = 0x08;
constexpr uint32_t kConfiguration = 0x14;
constexpr uint32_t kStatus = 0x1c;
// Queues are contiguous, ready within 7.5 s, NVM command set.
constexpr uint64_t kCapabilitiesValue = (kQueueDepth - 1) | 1ULL << 16 | 15ULL << 24 | 1ULL << 37;
constexpr uint32_t kVersionValue = 0x00010400;
constexpr uint32_t kEnable = 1;
constexpr uint32_t kShutdownMask = 3 << 14;
constexpr uint32_t kReady = 1;
constexpr uint32_t kShutdownComplete = 2 << 2;

}  // namespace

Queue::Answer Queue::PropertyGet(const Command& command) {
  bool wide = (command.dword10 & 7) == 1;
  if (command.dword11 == kCapabilities && wide) return {.result = kCapabilitiesValue};
  if (wide) return {.status = kInvalidField};
  std::lock_guard lock(controller_->mutex);
  switch (command.dword11) {
    case kVersion:
      return {.result = kVersionValue};
    case kConfiguration:
      return {.result = controller_->configuration};
    case kStatus:
      return {.result = controller_->status};
    default:
      return {.status = kInvalidField};
  }
}

Queue::Answer Queue::PropertySet(const Command& command) {
  if ((command.dword10 & 7) != 0 || command.dword11 != kConfiguration) return {.status = kInvalidField};
  std::lock_guard lock(controller_->mutex);
  controller_->configuration = command.dword12;
  controller_->status = (command.dword12 & kEnable) != 0 ? kReady : 0;
  if ((command.dword12 & kShutdownMask) != 0) controller_->status |= kShutdownComplete;
  return {};
}

}  // namespace resv
