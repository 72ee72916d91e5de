// SPDX-License-Identifier: MIT
//
// The device or file behind a target: opened, locked against a second weft-target, labelled. Open once;
// afterwards the label may be read and changed from any thread (the engine raises the fence, the link to
// weft-meta writes the cluster). The other areas belong to FloorTable and ChecksummedBackend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "rdma/fence.h"
#include "userland/base/status.h"
#include "userland/target/label.h"

namespace weft::target {

struct BackingOptions {
  std::string path;
  uint64_t create_bytes = 0;  // size of the file to create when there is none; 0: it must exist
  bool force = false;         // overwrite what is there when it is no weft target
  bool create = true;         // make it a target when it is none; else ENOENT
  Layout layout = Layout::kAreas;
  std::string command = "weft-target";  // that takes --force: for messages
  std::string name{};                   // for messages; empty: the path
  // Asked before anything is written to what is to become a target, with what it would be.
  std::function<Status(const Uuid& uuid, uint64_t capacity_bytes)> before_format{};
};

class Backing final : public rdma::Fence {
 public:
  // ENOENT, EBUSY (in use), EEXIST (holds something else), EINVAL (size, layout), EBADMSG (label), ...
  static Result<std::unique_ptr<Backing>> Open(const BackingOptions& options);
  ~Backing() override;
  Backing(const Backing&) = delete;
  Backing& operator=(const Backing&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  bool is_device() const { return is_device_; }
  uint64_t capacity_bytes() const { return capacity_bytes_; }
  const Areas& areas() const { return areas_; }
  const Uuid& uuid() const { return uuid_; }

  Uuid cluster() const;
  Status SetCluster(const Uuid& cluster);
  uint64_t chunk_bytes() const;
  Status SetChunkBytes(uint64_t bytes);

  uint64_t highest() const override;
  Status Raise(uint64_t session) override;

 private:
  Backing() = default;
  Status OpenFile(const BackingOptions& options);
  Status CreateFile(const BackingOptions& options);
  Status LockAgainstOthers();
  Status Measure(uint64_t create_bytes);
  Result<Label> ReadLabel();  // ENOENT: neither copy is one. EIO: see NewestLabel
  Status Format(const BackingOptions& options);
  Status ZeroAreas();
  Status TakeLabel(const Label& label);
  void FitCapacity(Label* label);
  std::string HowToMakeAnew() const;
  Status CheckEmpty();
  Status WriteLabel(const Label& label);  // with mutex_ held, or before anybody else knows this
  Status ReadAt(uint64_t offset, void* data, size_t bytes);

  std::string path_;
  std::string name_;  // for messages
  std::string command_;
  Layout layout_ = Layout::kAreas;
  int fd_ = -1;
  bool is_device_ = false;
  uint64_t size_bytes_ = 0;
  uint64_t capacity_bytes_ = 0;
  Areas areas_;
  Uuid uuid_{};
  mutable std::mutex mutex_;
  Label label_;  // under mutex_
};

}  // namespace weft::target
