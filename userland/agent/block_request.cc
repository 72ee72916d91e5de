// SPDX-License-Identifier: MIT
#include "userland/agent/block_request.h"

#include <cerrno>

namespace weft::agent {
namespace {

static_assert(static_cast<int>(rdma::BlockOp::kRead) == WEFT_OP_READ);
static_assert(static_cast<int>(rdma::BlockOp::kWrite) == WEFT_OP_WRITE);
static_assert(static_cast<int>(rdma::BlockOp::kFlush) == WEFT_OP_FLUSH);
static_assert(static_cast<int>(rdma::BlockOp::kDiscard) == WEFT_OP_DISCARD);
static_assert(static_cast<int>(rdma::BlockOp::kWriteZeroes) == WEFT_OP_WRITE_ZEROES);
static_assert(rdma::kBlockFua == WEFT_SQE_FUA);

bool Inside(uint64_t offset, uint64_t length, size_t pool_bytes) {
  return offset <= pool_bytes && length <= pool_bytes - offset;
}

Status CheckReserved(const weft_sqe& sqe) {
  if (sqe.reserved0 != 0) return Error(EINVAL, "reserved bytes are not zero");
  if ((sqe.flags & ~(WEFT_SQE_RESEND | WEFT_SQE_FUA | WEFT_SQE_RESYNCING)) != 0)
    return Error(EINVAL, "flags {:#x} are unknown", sqe.flags);
  return {};
}

Status CheckRange(const weft_sqe& sqe) {
  if (sqe.length == 0 || sqe.length % WEFT_BLOCK_BYTES != 0 || sqe.length > INT32_MAX) {
    return Error(EINVAL, "length {} is no number of blocks", sqe.length);
  }
  if (sqe.offset % WEFT_BLOCK_BYTES != 0 || sqe.offset > static_cast<uint64_t>(INT64_MAX) - sqe.length) {
    return Error(EINVAL, "offset {} is no place of a block", sqe.offset);
  }
  return {};
}

Status CheckBuffer(const weft_sqe& sqe, size_t pool_bytes) {
  if (sqe.length > WEFT_IO_BYTES_MAX) return Error(EINVAL, "length {} is above {}", sqe.length, WEFT_IO_BYTES_MAX);
  if (!Inside(sqe.buf, sqe.length, pool_bytes)) {
    return Error(EINVAL, "buf {} with length {} is outside the pool of {} bytes", sqe.buf, sqe.length, pool_bytes);
  }
  return {};
}

}  // namespace

Status ToBlockCommand(const weft_sqe& sqe, size_t pool_bytes, rdma::BlockCommand* command) {
  if (Status s = CheckReserved(sqe); !s.ok()) return s;
  if (sqe.target == 0) return Error(EINVAL, "target is 0");
  if (sqe.incarnation != 0 && sqe.op != WEFT_OP_FLUSH)
    return Error(EINVAL, "incarnation {:#x} of a request that is no FLUSH", sqe.incarnation);
  switch (sqe.op) {
    case WEFT_OP_READ:
    case WEFT_OP_WRITE:
      if (Status s = CheckBuffer(sqe, pool_bytes); !s.ok()) return s;
      [[fallthrough]];
    case WEFT_OP_DISCARD:
    case WEFT_OP_WRITE_ZEROES:
      if (Status s = CheckRange(sqe); !s.ok()) return s;
      break;
    case WEFT_OP_FLUSH:
      if (sqe.length != 0) return Error(EINVAL, "length {} of a FLUSH is not 0", sqe.length);
      break;
    default:
      return Error(EINVAL, "op {} is unknown", sqe.op);
  }
  command->tag = sqe.tag;
  command->op = static_cast<rdma::BlockOp>(sqe.op);
  command->flags = sqe.flags & WEFT_SQE_FUA;
  command->chunk_version = sqe.chunk_version;
  command->incarnation = sqe.incarnation;
  command->offset_bytes = sqe.offset;
  command->length_bytes = sqe.length;
  command->buffer_offset = sqe.buf;
  return {};
}

Status CheckMetaRequest(const weft_sqe& sqe, size_t pool_bytes) {
  if (Status s = CheckReserved(sqe); !s.ok()) return s;
  if (sqe.incarnation != 0) return Error(EINVAL, "incarnation of a metadata request");
  if (sqe.length < sizeof(weft_meta_req) || sqe.length > WEFT_META_REQ_BYTES) {
    return Error(EINVAL, "length {} of a metadata request", sqe.length);
  }
  if (!Inside(sqe.buf, WEFT_META_REQ_BYTES + WEFT_META_REP_BYTES, pool_bytes)) {
    return Error(EINVAL, "message slot at {} is outside the pool of {} bytes", sqe.buf, pool_bytes);
  }
  if (sqe.meta_slot >= WEFT_META_SLOTS) return Error(EINVAL, "meta_slot {} is out of range", sqe.meta_slot);
  if (sqe.meta_seq > INT64_MAX) return Error(EINVAL, "meta_seq {} is out of range", sqe.meta_seq);
  return {};
}

}  // namespace weft::agent
