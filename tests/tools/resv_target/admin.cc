// SPDX-License-Identifier: MIT
//
// Queue: admin commands.
#include <nvme/types.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "tests/tools/resv_target/queue.h"

namespace resv {
namespace {

constexpr uint32_t kAsyncEventsMax = 4;
constexpr uint32_t kInCapsuleBytes = 16 << 10;
constexpr size_t kIdentifyBytes = 4096;

template <typename T>
std::vector<uint8_t> Bytes(const T& value) {
  static_assert(sizeof value == kIdentifyBytes);
  const auto* from = reinterpret_cast<const uint8_t*>(&value);
  return {from, from + sizeof value};
}

template <size_t N>
void Pad(char (&field)[N], std::string_view text) {
  memset(field, ' ', N);
  memcpy(field, text.data(), std::min(N, text.size()));
}

}  // namespace

std::vector<uint8_t> Queue::DescribeController() const {
  nvme_id_ctrl id{};
  Pad(id.sn, "resv");
  Pad(id.mn, "weftfs test target");
  Pad(id.fr, "1");
  id.cmic = NVME_CTRL_CMIC_MULTI_CTRL;
  id.mdts = 5;  // kTransferBytesMax, in pages of 4 KiB
  id.cntlid = controller_->id;
  id.ver = 0x00010400;
  id.ctratt = NVME_CTRL_CTRATT_128_ID;
  id.cntrltype = NVME_CTRL_CNTRLTYPE_IO;
  id.acl = 3;
  id.aerl = kAsyncEventsMax - 1;
  id.kas = 10;  // of 100 ms
  id.sqes = 0x66;
  id.cqes = 0x44;
  id.maxcmd = kQueueDepth;
  id.nn = kNamespace;
  id.oncs = NVME_CTRL_ONCS_DSM | NVME_CTRL_ONCS_WRITE_ZEROES | NVME_CTRL_ONCS_RESERVATIONS;
  id.sgls = 1 | 1 << 20;  // with offsets into the capsule
  memcpy(id.subnqn, subsystem_->nqn().data(), std::min(sizeof id.subnqn, subsystem_->nqn().size()));
  id.ioccsz = (sizeof(Command) + kInCapsuleBytes) / 16;
  id.iorcsz = sizeof(Completion) / 16;
  id.msdbd = 1;
  return Bytes(id);
}

std::vector<uint8_t> Queue::DescribeNamespace() const {
  nvme_id_ns id{};
  id.nsze = id.ncap = id.nuse = subsystem_->blocks();
  id.nmic = NVME_NS_NMIC_SHARED;
  id.rescap = NVME_NS_RESCAP_WE | NVME_NS_RESCAP_EA | NVME_NS_RESCAP_WERO | NVME_NS_RESCAP_EARO | NVME_NS_RESCAP_WEAR |
              NVME_NS_RESCAP_EAAR | NVME_NS_RESCAP_IEK_13;
  id.dlfeat = NVME_NS_DLFEAT_RB_ALL_0S | NVME_NS_DLFEAT_WRITE_ZEROES;
  id.lbaf[0].ds = 9;
  return Bytes(id);
}

Queue::Answer Queue::Identify(const Command& command) {
  std::vector<uint8_t> data(kIdentifyBytes);
  switch (command.dword10 & 0xff) {
    case NVME_IDENTIFY_CNS_NS:
      if (command.nsid != kNamespace) return {.status = kInvalidNamespace};
      return {.data = DescribeNamespace()};
    case NVME_IDENTIFY_CNS_CTRL:
      return {.data = DescribeController()};
    case NVME_IDENTIFY_CNS_NS_ACTIVE_LIST:
      if (command.nsid < kNamespace) data[0] = kNamespace;
      return {.data = std::move(data)};
    case NVME_IDENTIFY_CNS_NS_DESC_LIST:
      if (command.nsid != kNamespace) return {.status = kInvalidNamespace};
      data[0] = NVME_NIDT_UUID;
      data[1] = static_cast<uint8_t>(subsystem_->uuid().size());
      std::ranges::copy(subsystem_->uuid(), data.begin() + 4);
      return {.data = std::move(data)};
    default:
      return {.status = kInvalidField};
  }
}

Queue::Answer Queue::SetFeatures(const Command& command) {
  switch (command.dword10 & 0xff) {
    case NVME_FEAT_FID_NUM_QUEUES: {
      uint32_t wanted = std::max(command.dword11 & 0xffff, command.dword11 >> 16);
      uint32_t given = std::min<uint32_t>(wanted, kQueuesMax - 1);
      return {.result = given | given << 16};
    }
    case NVME_FEAT_FID_ASYNC_EVENT:
    case NVME_FEAT_FID_KATO:
      return {};
    case NVME_FEAT_FID_HOST_ID:
      return {.status = kCommandSequence};  // it is said when connecting
    default:
      return {.status = kInvalidField};
  }
}

Queue::Answer Queue::GetFeatures(const Command& command) {
  switch (command.dword10 & 0xff) {
    case NVME_FEAT_FID_KATO:
      return {.result = controller_->keep_alive_ms};
    case NVME_FEAT_FID_HOST_ID:
      if ((command.dword11 & 1) == 0) return {.status = kInvalidField};
      return {.data = {controller_->host.begin(), controller_->host.end()}};
    default:
      return {.status = kInvalidField};
  }
}

// Of the pages only the one that hosts ask for unasked: health, of which nothing is known.
Queue::Answer Queue::GetLogPage(const Command& command) {
  uint32_t dwords = (command.dword10 >> 16) + 1;
  if ((command.dword10 & 0xff) != NVME_LOG_LID_SMART || (command.dword11 & 0xffff) != 0)
    return {.status = kInvalidLogPage};
  return {.data = std::vector<uint8_t>(std::min<size_t>(dwords * sizeof(uint32_t), sizeof(nvme_smart_log)))};
}

std::optional<Queue::Answer> Queue::Admin(const Command& command) {
  switch (command.opcode) {
    case kIdentify:
      return Identify(command);
    case kSetFeatures:
      return SetFeatures(command);
    case kGetFeatures:
      return GetFeatures(command);
    case kGetLogPage:
      return GetLogPage(command);
    case kAbort:
      return Answer{.result = 1};  // too late
    case kKeepAlive:
      return Answer{};
    case kAsyncEvent:  // there are none to tell of
      if (async_events_ == kAsyncEventsMax) return Answer{.status = kTooManyAsyncEvents};
      ++async_events_;
      return {};
    default:
      return Answer{.status = kInvalidOpcode};
  }
}

}  // namespace resv
