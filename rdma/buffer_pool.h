// SPDX-License-Identifier: MIT
//
// Buffers of 4 KiB to 1 MiB out of one piece of memory: a buddy allocator. Neither Take nor Give
// allocates or takes longer than the number of size classes. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "userland/base/status.h"

namespace weft::rdma {

class BufferPool {
 public:
  static constexpr uint32_t kSmallest = 4096;
  static constexpr int kClasses = 9;  // 4 KiB << 8 = 1 MiB
  static constexpr uint32_t kLargest = kSmallest << (kClasses - 1);

  // bytes: a multiple of kLargest. ENOMEM.
  static Result<std::unique_ptr<BufferPool>> Create(size_t bytes);
  ~BufferPool();

  uint8_t* memory() const { return memory_; }
  size_t bytes() const { return bytes_; }
  size_t free_bytes() const { return free_bytes_; }

  uint8_t* Take(uint32_t bytes);               // nullptr: nothing of that size is free. bytes: 1 .. kLargest
  void Give(uint8_t* buffer, uint32_t bytes);  // the same number as was taken

 private:
  BufferPool(uint8_t* memory, size_t bytes);
  static int ClassOf(uint32_t bytes);
  void Push(uint32_t page, int size_class);
  void Remove(uint32_t page, int size_class);

  static constexpr uint32_t kNone = UINT32_MAX;
  struct Page {  // the first page of a free buffer is in the list of its class
    uint32_t next = kNone;
    uint32_t previous = kNone;
    int8_t free_class = -1;  // -1: not the start of a free buffer
  };

  uint8_t* memory_;
  size_t bytes_;
  size_t free_bytes_ = 0;
  std::vector<Page> pages_;
  std::array<uint32_t, kClasses> heads_;
};

}  // namespace weft::rdma
