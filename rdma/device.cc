// SPDX-License-Identifier: MIT
#include <cerrno>

#include "rdma/real_objects.h"
#include "rdma/reaper.h"

namespace weft::rdma {
namespace {

class RealMemory final : public Memory {
 public:
  explicit RealMemory(ibv_mr* mr) : mr_(mr) {}
  ~RealMemory() override { ibv_dereg_mr(mr_); }
  uint32_t local_key() const override { return mr_->lkey; }
  uint32_t remote_key() const override { return mr_->rkey; }

 private:
  ibv_mr* mr_;
};

}  // namespace

RealDevice::RealDevice(ibv_context* context, ibv_pd* pd, const ibv_device_attr& limits)
    : name_(ibv_get_device_name(context->device)), context_(context), pd_(pd), limits_(limits) {}

RealDevice::~RealDevice() { ibv_dealloc_pd(pd_); }

Result<std::unique_ptr<RealDevice>> RealDevice::Create(ibv_context* context) {
  const char* name = ibv_get_device_name(context->device);
  ibv_device_attr limits;
  if (int error = ibv_query_device(context, &limits)) {
    return Status::Errno(error, fmt::format("RDMA device {}: query of its limits", name));
  }
  ibv_pd* pd = ibv_alloc_pd(context);
  if (!pd) return Status::Errno(errno, fmt::format("RDMA device {}: protection domain", name));
  return std::unique_ptr<RealDevice>(new RealDevice(context, pd, limits));
}

Result<std::unique_ptr<Memory>> RealDevice::RegisterMemory(void* address, size_t bytes, bool remote) {
  int access = IBV_ACCESS_LOCAL_WRITE;
  if (remote) access |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
  ibv_mr* mr = ibv_reg_mr(pd_, address, bytes, access);
  if (!mr) {
    int error = errno;
    return Status::Errno(error, fmt::format("RDMA device {}: cannot register {} bytes of memory{}", name_, bytes,
                                            error == ENOMEM ? " (raise the locked-memory limit, `ulimit -l`)" : ""));
  }
  return std::unique_ptr<Memory>(std::make_unique<RealMemory>(mr));
}

Result<std::unique_ptr<CompletionQueue>> RealDevice::CreateCompletionQueue(uint32_t depth) {
  return RealCompletionQueue::Create(context_, std::min<uint32_t>(depth, static_cast<uint32_t>(limits_.max_cqe)));
}

Result<std::unique_ptr<ReceiveQueue>> RealDevice::CreateReceiveQueue(uint32_t depth) {
  ibv_srq_init_attr init{};
  init.attr.max_wr = depth;
  init.attr.max_sge = kSegmentsMax;
  ibv_srq* srq = ibv_create_srq(pd_, &init);
  if (!srq) {
    return Status::Errno(errno, fmt::format("RDMA device {}: shared receive queue of {} entries", name_, depth));
  }
  return std::unique_ptr<ReceiveQueue>(std::make_unique<RealReceiveQueue>(srq));
}

RealReceiveQueue::~RealReceiveQueue() {
  Reaper::Instance().Wait();
  ibv_destroy_srq(srq_);
}

Status RealReceiveQueue::Post(std::span<const ReceiveWork> work) {
  constexpr size_t kBatch = 32;
  while (!work.empty()) {
    std::array<ibv_recv_wr, kBatch> requests;
    std::array<std::array<ibv_sge, kSegmentsMax>, kBatch> sges;
    size_t count = std::min(work.size(), kBatch);
    for (size_t i = 0; i < count; i++) {
      int segments = FillSge(work[i].segment, work[i].segments, sges[i].data());
      requests[i] = {work[i].id, i + 1 < count ? &requests[i + 1] : nullptr, sges[i].data(), segments};
    }
    ibv_recv_wr* bad = nullptr;
    if (int error = ibv_post_srq_recv(srq_, requests.data(), &bad)) {
      return Status::Errno(error, "post to the shared receive queue");
    }
    work = work.subspan(count);
  }
  return Status::Ok();
}

Result<RealDevice*> RealVerbsImpl::DeviceOf(ibv_context* context) {
  std::lock_guard lock(mutex_);
  std::unique_ptr<RealDevice>& device = devices_[context];
  if (!device) {
    Result<std::unique_ptr<RealDevice>> created = RealDevice::Create(context);
    if (!created.ok()) return created.status();
    device = *std::move(created);
  }
  return device.get();
}

int FillSge(const std::array<Segment, kSegmentsMax>& segment, uint8_t segments, ibv_sge* sge) {
  for (int i = 0; i < segments; i++) {
    sge[i] = {reinterpret_cast<uint64_t>(segment[i].address), segment[i].bytes, segment[i].key};
  }
  return segments;
}

}  // namespace weft::rdma
