// SPDX-License-Identifier: MIT
#include "userland/target/plain_backend.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "userland/base/block.h"
#include "userland/target/checksum_table.h"

namespace weft::target {
namespace {

using rdma::BackendDone;
using rdma::BackendOp;
using rdma::BackendRequest;

constexpr uint32_t kSumStep = 1 << 20;

}  // namespace

PlainBackend::PlainBackend(rdma::BlockBackend* device, PlainOptions options)
    : device_(device), options_(std::move(options)) {}

PlainBackend::~PlainBackend() { free(scratch_); }

void PlainBackend::Submit(const BackendRequest& request) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(operations_.size()));
    operations_.emplace_back();
  }
  uint32_t index = free_.back();
  free_.pop_back();
  operations_[index] = {.request = request, .summed_bytes = 0, .started = {}};
  if (options_.may_send && !options_.may_send()) return Finish(index, -EHOSTDOWN);
  switch (request.op) {
    case BackendOp::kPoison:
      Finish(index, -EOPNOTSUPP);
      break;
    case BackendOp::kChecksums:
      to_sum_.push_back(index);
      if (to_sum_.size() == 1) StartSumming();
      break;
    default:
      Issue(index);
  }
}

void PlainBackend::Issue(uint32_t index) {
  Operation& operation = operations_[index];
  BackendRequest request = operation.request;
  request.cookie = index;
  if (request.op != BackendOp::kFlush) request.offset_bytes += options_.data_offset;
  if (request.op == BackendOp::kDiscard) request.op = BackendOp::kWriteZeroes;
  if (request.op == BackendOp::kWrite || request.op == BackendOp::kWriteZeroes) request.durable |= options_.write_cache;
  operation.started = LatencyMeter::Clock::now();
  device_->Submit(request);
}

void PlainBackend::StartSumming() {
  if (!scratch_) scratch_ = static_cast<uint8_t*>(aligned_alloc(kBlockBytes, kSumStep));
  while (!scratch_ && !to_sum_.empty()) {
    Finish(to_sum_.front(), -ENOMEM);
    to_sum_.pop_front();
  }
  if (!to_sum_.empty()) ReadToSum(to_sum_.front());
}

void PlainBackend::ReadToSum(uint32_t index) {
  const Operation& operation = operations_[index];
  device_->Submit({.cookie = index,
                   .op = BackendOp::kRead,
                   .offset_bytes = options_.data_offset + operation.request.offset_bytes + operation.summed_bytes,
                   .length_bytes = std::min(kSumStep, operation.request.length_bytes - operation.summed_bytes),
                   .data = scratch_});
}

void PlainBackend::OnSummed(uint32_t index) {
  Operation& operation = operations_[index];
  uint32_t step = std::min(kSumStep, operation.request.length_bytes - operation.summed_bytes);
  for (uint32_t at = 0; at < step; at += kBlockBytes) {
    uint32_t sum = SumOf(scratch_ + at);
    uint64_t block = (operation.summed_bytes + at) / kBlockBytes;
    memcpy(operation.request.data + block * sizeof sum, &sum, sizeof sum);
  }
  operation.summed_bytes += step;
}

void PlainBackend::OnDevice(uint32_t index, int32_t result) {
  Operation& operation = operations_[index];
  if (operation.request.op != BackendOp::kChecksums) {
    if (operation.request.op == BackendOp::kRead || operation.request.op == BackendOp::kWrite)
      latency_.AddSince(operation.started);
    Finish(index, result);
    return;
  }
  if (result >= 0) OnSummed(index);
  if (result >= 0 && operation.summed_bytes < operation.request.length_bytes) {
    ReadToSum(index);
    return;
  }
  Finish(index, std::min(result, 0));
  to_sum_.pop_front();
  StartSumming();
}

void PlainBackend::Finish(uint32_t index, int32_t result) {
  if (result < 0 && options_.translate) result = options_.translate(result);
  done_.push_back({operations_[index].request.cookie, result});
  free_.push_back(index);
}

size_t PlainBackend::Poll(std::span<BackendDone> out) {
  size_t count = device_->Poll(answers_);
  for (size_t i = 0; i < count; i++) OnDevice(static_cast<uint32_t>(answers_[i].cookie), answers_[i].result);
  size_t told = std::min(out.size(), done_.size());
  std::copy_n(done_.begin(), told, out.begin());
  done_.erase(done_.begin(), done_.begin() + static_cast<ptrdiff_t>(told));
  return told;
}

}  // namespace weft::target
