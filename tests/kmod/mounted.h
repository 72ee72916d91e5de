// SPDX-License-Identifier: MIT
//
// A world that is mounted. One thread, but for Write, Reads and Holds.
#pragma once

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "tests/kmod/cases.h"
#include "tests/kmod/check.h"
#include "tests/kmod/fake_agent.h"
#include "tests/kmod/world.h"

namespace weft::kmod_test {

inline constexpr const char* kCluster = "mounttest";
inline constexpr const char* kDirectory = "/tmp/weft-mounttest";
inline constexpr size_t kAlign = 4096;

struct Free {
  void operator()(char* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<char, Free>;
inline Buffer NewBuffer(size_t bytes) { return Buffer(static_cast<char*>(std::aligned_alloc(kAlign, bytes))); }

inline Buffer Pattern(size_t bytes, uint32_t seed) {
  Buffer buffer = NewBuffer(bytes);
  std::minstd_rand random(seed + 1);
  for (size_t i = 0; i < bytes; i += 4) {
    uint32_t word = random();
    std::memcpy(buffer.get() + i, &word, 4);
  }
  return buffer;
}

// World, agent and mount, with the file open.
class Mounted {
 public:
  // prepare: the world, before its agent starts.
  explicit Mounted(
      const char* options = "hard", const std::function<void(World*)>& prepare = [](World*) {})
      : world_(NewWorld()) {
    mkdir(kDirectory, 0755);
    prepare(world_);
    StartAgent();
    mounted_ = CHECK_EQ(mount(kCluster, kDirectory, "weft", 0, options), 0);
    fd_ = open(Path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    CHECK(fd_ >= 0);
  }
  ~Mounted() {
    close(fd_);
    if (!agent_) StartAgent();
    if (mounted_) CHECK_EQ(umount(kDirectory), 0);
    agent_.reset();
    CHECK_EQ(world_->violations, 0u);
    CHECK_EQ(world_->poison_accepted, 0u);
    CHECK(!SysfsHas(kCluster));
  }

  World* world() { return world_; }
  int fd() const { return fd_; }
  static std::string Path(const std::string& name = "data") { return std::string(kDirectory) + "/" + name; }
  void StartAgent() {
    agent_ = std::make_unique<AgentProcess>(world_, kCluster);
    CHECK(agent_->ok());
  }
  void KillAgent() {
    agent_->Kill();
    agent_.reset();
  }
  void StopAgent() { agent_.reset(); }
  void ForceUnmount() {
    close(fd_);
    fd_ = -1;
    CHECK_EQ(umount2(kDirectory, MNT_FORCE), 0);
    mounted_ = false;
  }

  // Hands a map to the kernel; what the ioctl says.
  int Push(const weft_chunk& map) {
    world_->pushed = map;
    world_->push = true;
    CHECK(Eventually([&] { return !world_->push; }));
    return world_->push_error;
  }
  // What the agent's ioctls say.
  int Call(unsigned long number) {
    world_->call_number = number;
    world_->call = true;
    CHECK(Eventually([&] { return !world_->call; }));
    return world_->call_error;
  }
  int SetDevice(uint32_t target, const std::string& path, uint64_t data_offset = 0, uint32_t flags = 0) {
    world_->device = {.target = target, .fd = -1, .data_offset = data_offset, .flags = flags, .reserved = 0};
    path.copy(world_->device_path, sizeof world_->device_path - 1);
    world_->device_path[path.size()] = 0;
    return Call(WEFT_IOC_DEVICE);
  }
  int SetLease(uint64_t until_ns) {
    world_->lease = {.until_ns = until_ns, .reserved = 0};
    return Call(WEFT_IOC_LEASE);
  }
  // The map as the metadata server has it.
  weft_chunk Map(uint64_t index) const {
    const Chunk& chunk = world_->chunks[index];
    weft_chunk map{};
    map.index = index;
    map.version = chunk.version;
    map.count = chunk.copies;
    for (uint32_t i = 0; i < map.count; ++i) map.copies[i] = {i + 1, chunk.states[i], index * kChunkBytes};
    return map;
  }
  bool TellTargets() {
    world_->targets_changed = true;
    return CHECK(Eventually([&] { return !world_->targets_changed; }));
  }

  bool Write(uint64_t offset, size_t bytes, uint32_t seed) {
    return pwrite(fd_, Pattern(bytes, seed).get(), bytes, offset) == static_cast<ssize_t>(bytes);
  }
  bool Reads(uint64_t offset, size_t bytes, uint32_t seed) {
    Buffer buffer = NewBuffer(bytes);
    return pread(fd_, buffer.get(), bytes, offset) == static_cast<ssize_t>(bytes) &&
           !std::memcmp(buffer.get(), Pattern(bytes, seed).get(), bytes);
  }
  bool Holds(uint32_t target, uint64_t offset, size_t bytes, uint32_t seed) {
    return !std::memcmp(world_->targets[target].data + offset, Pattern(bytes, seed).get(), bytes);
  }

 private:
  World* const world_;
  std::unique_ptr<AgentProcess> agent_;
  bool mounted_ = false;
  int fd_ = -1;
};

}  // namespace weft::kmod_test
