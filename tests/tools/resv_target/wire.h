// SPDX-License-Identifier: MIT
//
// What travels between an NVMe/TCP host and this target: NVM Express TCP Transport Specification 1.0, Base
// Specification 2.0, NVM Command Set Specification 1.0. Little-endian, like the only machines that this runs on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace resv {

using HostId = std::array<uint8_t, 16>;

// ---- PDUs -------------------------------------------------------------------------------------------------

enum PduType : uint8_t {
  kIcReq = 0x00,
  kIcResp = 0x01,
  kCommand = 0x04,
  kResponse = 0x05,
  kHostData = 0x06,
  kControllerData = 0x07,
  kReadyToTransfer = 0x09,
};

inline constexpr uint8_t kPduLast = 1 << 2;

struct PduHeader {
  uint8_t type;
  uint8_t flags;
  uint8_t header_bytes;
  uint8_t data_offset;
  uint32_t bytes;
};
static_assert(sizeof(PduHeader) == 8);

struct InitializePdu {  // request and response
  PduHeader header;
  uint16_t format;
  uint8_t alignment;
  uint8_t digests;
  uint32_t data_max;  // of a request: R2Ts at once
  uint8_t reserved[112];
};
static_assert(sizeof(InitializePdu) == 128);

struct DataPdu {  // also an R2T
  PduHeader header;
  uint16_t command;
  uint16_t transfer;
  uint32_t offset;
  uint32_t length;
  uint32_t reserved;
};
static_assert(sizeof(DataPdu) == 24);

// ---- commands ---------------------------------------------------------------------------------------------

inline constexpr uint8_t kSglInCapsule = 0x01;
inline constexpr uint8_t kSglTransport = 0x5a;

struct Command {
  uint8_t opcode;
  uint8_t flags;
  uint16_t id;
  uint32_t nsid;  // fabrics: their type in the first byte
  uint32_t dword2, dword3;
  uint64_t metadata;
  uint64_t sgl_address;
  uint32_t sgl_length;
  uint8_t sgl_reserved[3];
  uint8_t sgl_type;
  uint32_t dword10, dword11, dword12, dword13, dword14, dword15;
};
static_assert(sizeof(Command) == 64);

struct Completion {
  uint64_t result;
  uint16_t queue_head;
  uint16_t queue;
  uint16_t command;
  uint16_t status;  // from bit 1
};
static_assert(sizeof(Completion) == 16);

enum AdminOpcode : uint8_t {
  kGetLogPage = 0x02,
  kIdentify = 0x06,
  kAbort = 0x08,
  kSetFeatures = 0x09,
  kGetFeatures = 0x0a,
  kAsyncEvent = 0x0c,
  kKeepAlive = 0x18,
  kFabrics = 0x7f,
};

enum IoOpcode : uint8_t {
  kFlush = 0x00,
  kWrite = 0x01,
  kRead = 0x02,
  kWriteZeroes = 0x08,
  kDatasetManagement = 0x09,
  kReservationRegister = 0x0d,
  kReservationReport = 0x0e,
  kReservationAcquire = 0x11,
  kReservationRelease = 0x15,
};

enum FabricsType : uint8_t { kPropertySet = 0x00, kConnect = 0x01, kPropertyGet = 0x04 };

struct ConnectData {
  HostId host;
  uint16_t controller;
  uint8_t reserved[238];
  char subsystem[256];
  char host_nqn[256];
  uint8_t reserved2[256];
};
static_assert(sizeof(ConnectData) == 1024);

// With "do not retry" where that would not help.
inline constexpr uint16_t kDoNotRetry = 0x4000;
enum StatusCode : uint16_t {
  kSuccess = 0,
  kInvalidOpcode = 0x01 | kDoNotRetry,
  kInvalidField = 0x02 | kDoNotRetry,
  kInternalError = 0x06,
  kInvalidNamespace = 0x0b | kDoNotRetry,
  kCommandSequence = 0x0c | kDoNotRetry,
  kInvalidSglLength = 0x0f | kDoNotRetry,
  kHostIdFormat = 0x18 | kDoNotRetry,
  kLbaOutOfRange = 0x80 | kDoNotRetry,
  kReservationConflict = 0x83 | kDoNotRetry,
  kTooManyAsyncEvents = 0x105 | kDoNotRetry,
  kInvalidLogPage = 0x109 | kDoNotRetry,
  kConnectInvalid = 0x182 | kDoNotRetry,
};

}  // namespace resv
