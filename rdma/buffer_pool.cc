// SPDX-License-Identifier: MIT
#include "rdma/buffer_pool.h"

#include <sys/mman.h>

#include <bit>
#include <cassert>
#include <cerrno>

namespace weft::rdma {

Result<std::unique_ptr<BufferPool>> BufferPool::Create(size_t bytes) {
  if (bytes == 0 || bytes % kLargest) {
    return Error(EINVAL, "buffer memory of {} bytes: a multiple of {} is needed", bytes, kLargest);
  }
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Status::Errno(errno, fmt::format("buffer memory of {} bytes", bytes));
  madvise(memory, bytes, MADV_HUGEPAGE);  // fewer entries for the NIC; works without
  return std::unique_ptr<BufferPool>(new BufferPool(static_cast<uint8_t*>(memory), bytes));
}

BufferPool::BufferPool(uint8_t* memory, size_t bytes) : memory_(memory), bytes_(bytes), pages_(bytes / kSmallest) {
  heads_.fill(kNone);
  for (size_t at = bytes; at > 0; at -= kLargest)
    Push(static_cast<uint32_t>((at - kLargest) / kSmallest), kClasses - 1);
  free_bytes_ = bytes;
}

BufferPool::~BufferPool() { munmap(memory_, bytes_); }

int BufferPool::ClassOf(uint32_t bytes) {
  assert(bytes > 0 && bytes <= kLargest);
  return bytes <= kSmallest ? 0 : std::bit_width((bytes - 1) / kSmallest);
}

void BufferPool::Push(uint32_t page, int size_class) {
  auto c = static_cast<size_t>(size_class);
  pages_[page] = {heads_[c], kNone, static_cast<int8_t>(size_class)};
  if (heads_[c] != kNone) pages_[heads_[c]].previous = page;
  heads_[c] = page;
}

void BufferPool::Remove(uint32_t page, int size_class) {
  Page& p = pages_[page];
  if (p.previous != kNone) {
    pages_[p.previous].next = p.next;
  } else {
    heads_[static_cast<size_t>(size_class)] = p.next;
  }
  if (p.next != kNone) pages_[p.next].previous = p.previous;
  p = Page{};
}

uint8_t* BufferPool::Take(uint32_t bytes) {
  int wanted = ClassOf(bytes);
  int found = wanted;
  while (found < kClasses && heads_[static_cast<size_t>(found)] == kNone) found++;
  if (found == kClasses) return nullptr;
  uint32_t page = heads_[static_cast<size_t>(found)];
  Remove(page, found);
  while (found > wanted) {
    found--;
    Push(page + (1U << found), found);  // the upper half stays free
  }
  free_bytes_ -= size_t{kSmallest} << wanted;
  return memory_ + size_t{page} * kSmallest;
}

void BufferPool::Give(uint8_t* buffer, uint32_t bytes) {
  int size_class = ClassOf(bytes);
  auto page = static_cast<uint32_t>(static_cast<size_t>(buffer - memory_) / kSmallest);
  free_bytes_ += size_t{kSmallest} << size_class;
  while (size_class < kClasses - 1) {
    uint32_t buddy = page ^ (1U << size_class);
    if (pages_[buddy].free_class != size_class) break;
    Remove(buddy, size_class);
    page &= ~(1U << size_class);
    size_class++;
  }
  Push(page, size_class);
}

}  // namespace weft::rdma
