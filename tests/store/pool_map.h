// SPDX-License-Identifier: MIT
//
// The chunks of a pool and the targets' devices, as the store of a stopped metadata server has them. One
// thread; reads only.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "userland/base/uuid.h"
#include "userland/meta/keys.h"
#include "userland/meta/records.h"
#include "userland/meta/rocks_store.h"
#include "userland/target/label.h"

namespace weft {

class PoolMap {
 public:
  struct Device {
    std::string path;
    int fd = -1;
    uint64_t data_offset = 0;
  };

  static Result<PoolMap> Open(const std::string& data, const std::vector<std::string>& devices) {
    Result<std::unique_ptr<RocksStore>> store = RocksStore::Open(data, {});
    if (!store.ok()) return store.status();
    PoolMap map;
    map.store_ = std::move(*store);
    Status s = map.ReadTables();
    if (s.ok()) s = map.OpenDevices(devices);
    if (!s.ok()) return s;
    return map;
  }

  Store& store() { return *store_; }
  const PoolRecord& pool() const { return pool_; }
  const std::map<uint64_t, Chunk>& chunks() const { return chunks_; }
  uint64_t chunk_bytes() const { return pool_.chunk_blocks * kBlockBytes; }
  std::string TargetName(uint32_t id) const {
    auto it = targets_.find(id);
    return it == targets_.end() ? "target " + std::to_string(id) : it->second.name;
  }
  // nullptr: none of the devices is the target's.
  const Device* DeviceOf(uint32_t target) const {
    auto it = targets_.find(target);
    if (it == targets_.end()) return nullptr;
    auto device = devices_.find(it->second.uuid);
    return device == devices_.end() ? nullptr : &device->second;
  }
  // On the device of the copy's target, which is one of those that were named.
  uint64_t DeviceOffset(const Copy& copy, uint64_t offset) const {
    return DeviceOf(copy.target)->data_offset + copy.offset + offset;
  }

  // Visits the records of one table, in the order of their keys.
  template <typename Visit>
  Status Scan(char table, const Visit& visit) {
    std::string from(1, table), bad;
    Status s = store_->Scan(from, key::End(from), [&](std::string_view key, std::string_view value) {
      if (!visit(key, value)) bad = std::string(key);
      return bad.empty();
    });
    if (s.ok() && !bad.empty()) return Error(EUCLEAN, "a record of table '{}' does not decode", table);
    return s;
  }

 private:
  Status ReadTables() {
    std::string bytes;
    bool found = false;
    if (Status s = store_->Get(key::Pool(), &bytes, &found); !s.ok()) return s;
    if (!found || !PoolRecord::Decode(bytes, &pool_)) return Error(ENOENT, "the store has no pool");
    Status s = Scan('T', [&](std::string_view key, std::string_view value) {
      uint64_t id = 0;
      TargetRecord record;
      if (!key::Parse(key, &id) || !TargetRecord::Decode(value, &record)) return false;
      targets_[static_cast<uint32_t>(id)] = record;
      return true;
    });
    if (!s.ok()) return s;
    return Scan('K', [&](std::string_view key, std::string_view value) {
      uint64_t index = 0;
      return key::Parse(key, &index) && Chunk::Decode(value, &chunks_[index]);
    });
  }

  // A device says by its label whose it is; of its two labels the newer counts, as for the target.
  Status OpenDevices(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
      Device device{.path = path, .fd = open(path.c_str(), O_RDONLY | O_CLOEXEC)};
      if (device.fd < 0) return Status::Errno(errno, path);
      // What the cache holds may be older than what a target wrote to the disk through the device mapper.
      posix_fadvise(device.fd, 0, 0, POSIX_FADV_DONTNEED);
      bool found = false;
      target::Label newest;
      for (int i = 0; i < target::kLabelCopies; i++) {
        uint8_t bytes[target::kLabelBytes];
        if (pread(device.fd, bytes, sizeof(bytes), i * static_cast<off_t>(sizeof(bytes))) != sizeof(bytes)) continue;
        Result<target::Label> label = target::DecodeLabel(bytes);
        if (!label.ok() || (found && label->generation < newest.generation)) continue;
        newest = *label;
        found = true;
      }
      if (!found) {  // a spare that was never started
        close(device.fd);
        continue;
      }
      device.data_offset = newest.data_offset;
      devices_[newest.target] = device;
    }
    return {};
  }

  std::unique_ptr<RocksStore> store_;
  PoolRecord pool_;
  std::map<uint32_t, TargetRecord> targets_;
  std::map<uint64_t, Chunk> chunks_;
  std::map<Uuid, Device> devices_;
};

}  // namespace weft
