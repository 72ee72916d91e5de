// SPDX-License-Identifier: MIT
#include "userland/target/backing.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "userland/base/config.h"
#include "userland/base/log.h"
#include "userland/target/signature.h"

namespace weft::target {
namespace {

constexpr uint64_t kSizeMin = 16 << 20;
constexpr uint64_t kGrowth = 2;             // the areas have room for so many times the capacity at the start
constexpr uint64_t kPlainMax = 1ULL << 62;  // without areas nothing limits it
constexpr uint64_t kZeroStep = 1 << 20;
constexpr size_t kTailBytes = 64 << 10;  // some formats keep a copy at the end

struct AlignedBuffer {  // for O_DIRECT
  explicit AlignedBuffer(size_t bytes) : data(static_cast<uint8_t*>(aligned_alloc(kBlockBytes, bytes))) {}
  ~AlignedBuffer() { free(data); }
  uint8_t* data;
};

std::string_view NameOf(Layout layout) {
  return layout == Layout::kPlain ? "an NVMe-oF target" : "the device of a weft-target";
}

}  // namespace

// What is a weft target stays one, whatever the options: its label has to go first.
std::string Backing::HowToMakeAnew() const {
  return fmt::format("zero its first MiB (`dd if=/dev/zero of={} bs=1M count=1 conv=notrunc`) and use {} with --force",
                     path_, command_);
}

Result<std::unique_ptr<Backing>> Backing::Open(const BackingOptions& options) {
  std::unique_ptr<Backing> backing(new Backing());
  backing->path_ = options.path;
  backing->name_ = options.name.empty() ? options.path : options.name;
  backing->command_ = options.command;
  backing->layout_ = options.layout;
  if (Status s = backing->OpenFile(options); !s.ok()) return s;
  if (Status s = backing->LockAgainstOthers(); !s.ok()) return s;
  if (Status s = backing->Measure(options.create_bytes); !s.ok()) return s;
  Result<Label> label = backing->ReadLabel();
  if (!label.ok() && label.status().code() == EIO) return label.status();  // with --force, too: it may be a good target
  if (!label.ok() && !options.create) return label.status().Annotate(options.path);
  if (!label.ok() && label.status().code() != ENOENT && !options.force) {
    return label.status().Annotate(fmt::format("{} (--force makes it a new, empty target)", options.path));
  }
  if (!label.ok()) {
    if (Status s = backing->Format(options); !s.ok()) return s;
    return backing;
  }
  if (Status s = backing->TakeLabel(*label); !s.ok()) return s;
  return backing;
}

Status Backing::TakeLabel(const Label& label) {
  if (label.layout != layout_) {
    return Error(EINVAL, "{} is {}, not {}; if nobody needs what it holds, {}", name_, NameOf(label.layout),
                 NameOf(layout_), HowToMakeAnew());
  }
  if (label.capacity_bytes + label.data_offset > size_bytes_) {
    return Error(EINVAL, "{} has {} bytes, its label says {}: it has shrunk", name_, size_bytes_,
                 label.capacity_bytes + label.data_offset);
  }
  label_ = label;
  uuid_ = label.target;
  areas_ = AreasFor(label.capacity_max_bytes, layout_);
  Label fitting = label;
  FitCapacity(&fitting);
  return fitting.capacity_bytes == label.capacity_bytes ? Status::Ok() : WriteLabel(fitting);
}

// To what the device has now, as far as the areas in front of the data have room for it.
void Backing::FitCapacity(Label* label) {
  uint64_t capacity = size_bytes_ - label->data_offset;
  if (capacity > label->capacity_max_bytes) {
    LogWarning(
        "{} has grown to more than {}, for which it was laid out: the rest is not used; to use it, drain and remove "
        "this target, then {}",
        name_, FormatBytes(label->capacity_max_bytes), HowToMakeAnew());
    capacity = label->capacity_max_bytes;
  }
  if (capacity > label->capacity_bytes) LogInfo("{} has grown to {}", name_, FormatBytes(capacity));
  capacity_bytes_ = capacity;
  label->capacity_bytes = capacity;
}

Backing::~Backing() {
  if (fd_ >= 0) close(fd_);
}

Status Backing::OpenFile(const BackingOptions& options) {
  struct stat st;
  if (stat(path_.c_str(), &st)) {
    if (errno != ENOENT) return Status::Errno(errno, path_);
    if (Status s = CreateFile(options); !s.ok()) return s;
    if (stat(path_.c_str(), &st)) return Status::Errno(errno, path_);
  }
  is_device_ = S_ISBLK(st.st_mode);
  if (!is_device_ && !S_ISREG(st.st_mode)) return Error(EINVAL, "{} is neither a block device nor a file", name_);
  int flags = O_RDWR | O_CLOEXEC;
  if (is_device_) flags |= O_EXCL;  // EBUSY when it is mounted or part of something
  struct statfs fs;
  bool in_memory = !is_device_ && statfs(path_.c_str(), &fs) == 0 && fs.f_type == TMPFS_MAGIC;
  // A file in memory never waits for a disk: with O_NONBLOCK io_uring serves it at once, without its
  // worker threads.
  fd_ = open(path_.c_str(), flags | (in_memory ? O_NONBLOCK : O_DIRECT));
  if (fd_ < 0 && errno == EINVAL) {
    LogInfo("{} does not take O_DIRECT: its data goes through the page cache", name_);
    fd_ = open(path_.c_str(), flags);
  }
  if (fd_ < 0 && errno == EBUSY) {
    return Error(EBUSY, "{} is in use: mounted, or part of a volume or array (see `lsblk`)", name_);
  }
  if (fd_ < 0) return Status::Errno(errno, name_);
  return Status::Ok();
}

Status Backing::CreateFile(const BackingOptions& options) {
  if (options.create_bytes == 0) return Error(ENOENT, "there is no {}; --size BYTES creates it as a file", path_);
  if (options.create_bytes < kSizeMin) {
    return Error(EINVAL, "--size {}: at least {} is needed", options.create_bytes, kSizeMin);
  }
  int fd = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return Status::Errno(errno, fmt::format("create {}", path_));
  int error = ftruncate(fd, static_cast<off_t>(options.create_bytes)) ? errno : 0;
  close(fd);
  if (error) {
    unlink(path_.c_str());
    return Status::Errno(error, fmt::format("create {} of {} bytes", path_, options.create_bytes));
  }
  return Status::Ok();
}

Status Backing::LockAgainstOthers() {
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return Status::Ok();
  if (errno == EWOULDBLOCK) return Error(EBUSY, "{} is in use by another weft-target or weftd", name_);
  return Status::Errno(errno, fmt::format("lock {}", name_));
}

Status Backing::Measure(uint64_t create_bytes) {
  struct stat st;
  if (is_device_) {
    if (ioctl(fd_, BLKGETSIZE64, &size_bytes_)) return Status::Errno(errno, fmt::format("size of {}", name_));
  } else {
    if (fstat(fd_, &st)) return Status::Errno(errno, fmt::format("size of {}", name_));
    size_bytes_ = static_cast<uint64_t>(st.st_size);
  }
  if (create_bytes && !is_device_ && size_bytes_ != create_bytes) {
    return Error(EINVAL, "{} exists and has {} bytes, --size says {}; leave --size out", name_, size_bytes_,
                 create_bytes);
  }
  size_bytes_ -= size_bytes_ % kBlockBytes;
  if (size_bytes_ < kSizeMin) {
    return Error(EINVAL, "{} has {} bytes, at least {} are needed", name_, size_bytes_, kSizeMin);
  }
  return Status::Ok();
}

Status Backing::ReadAt(uint64_t offset, void* data, size_t bytes) {
  ssize_t count = pread(fd_, data, bytes, static_cast<off_t>(offset));
  if (count == static_cast<ssize_t>(bytes)) return Status::Ok();
  return Status::Errno(count < 0 ? errno : EIO, fmt::format("read {} at {}", name_, offset));
}

Result<Label> Backing::ReadLabel() {
  AlignedBuffer buffer(kLabelBytes);
  std::vector<Result<Label>> copies;
  for (int i = 0; i < kLabelCopies; i++) {
    Status s = ReadAt(static_cast<uint64_t>(i) * kLabelBytes, buffer.data, kLabelBytes);
    if (s.ok()) {
      copies.push_back(DecodeLabel(std::span<const uint8_t, kLabelBytes>(buffer.data, kLabelBytes)));
    } else {
      copies.emplace_back(Error(EIO, "{}", s.message()));
    }
  }
  return NewestLabel(copies);
}

Status Backing::Format(const BackingOptions& options) {
  if (!options.force) {
    if (Status s = CheckEmpty(); !s.ok()) return s;
  }
  uint64_t capacity_max = layout_ == Layout::kPlain ? kPlainMax : kGrowth * size_bytes_;
  Label label{.target = RandomUuid(), .capacity_max_bytes = capacity_max, .layout = layout_};
  areas_ = AreasFor(label.capacity_max_bytes, layout_);
  label.data_offset = areas_.data;
  label.capacity_bytes = size_bytes_ - areas_.data;
  if (options.before_format) {
    if (Status s = options.before_format(label.target, label.capacity_bytes); !s.ok()) return s;
  }
  if (Status s = ZeroAreas(); !s.ok()) return s;
  capacity_bytes_ = label.capacity_bytes;
  uuid_ = label.target;
  for (int i = 0; i < kLabelCopies; i++) {
    if (Status s = WriteLabel(label); !s.ok()) return s;
  }
  LogInfo("{} is a new target, uuid {}, {}", name_, ToString(uuid_), FormatBytes(capacity_bytes_));
  return Status::Ok();
}

// Everything in front of the data.
Status Backing::ZeroAreas() {
  int mode = is_device_ ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
  if (fallocate(fd_, mode | FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(areas_.data)) == 0) return Status::Ok();
  if (errno != EOPNOTSUPP) return Status::Errno(errno, fmt::format("zero the first {} of {}", areas_.data, name_));
  AlignedBuffer zeroes(kZeroStep);
  memset(zeroes.data, 0, kZeroStep);
  for (uint64_t at = 0; at < areas_.data; at += kZeroStep) {
    if (pwrite(fd_, zeroes.data, kZeroStep, static_cast<off_t>(at)) != static_cast<ssize_t>(kZeroStep)) {
      return Status::Errno(errno, fmt::format("zero {} at {}", name_, at));
    }
  }
  return Status::Ok();
}

// A device that holds anything in its first MiB or at its very end belongs to somebody.
Status Backing::CheckEmpty() {
  AlignedBuffer head(kAreasOffset);
  AlignedBuffer tail(kTailBytes);
  if (Status s = ReadAt(0, head.data, kAreasOffset); !s.ok()) return s;
  if (Status s = ReadAt(size_bytes_ - kTailBytes, tail.data, kTailBytes); !s.ok()) return s;
  auto used = [](uint8_t b) { return b != 0; };
  uint8_t* head_end = head.data + kAreasOffset;
  uint8_t* at = std::find_if(head.data, head_end, used);
  bool in_head = at != head_end;
  if (!in_head && std::none_of(tail.data, tail.data + kTailBytes, used)) return Status::Ok();
  std::string_view what = GuessContents(std::span<const uint8_t>(head.data, kAreasOffset));
  return Error(EEXIST, "{} holds {} ({}); --force makes it a weft target and destroys that", name_,
               what.empty() ? "data of something else" : what,
               in_head ? fmt::format("byte {} is not zero", at - head.data) : "its end is not zero");
}

Status Backing::WriteLabel(const Label& label) {
  Label next = label;
  next.generation = label_.generation + 1;
  AlignedBuffer buffer(kLabelBytes);
  EncodeLabel(next, std::span<uint8_t, kLabelBytes>(buffer.data, kLabelBytes));
  auto offset = static_cast<off_t>(next.generation % kLabelCopies * kLabelBytes);
  if (pwrite(fd_, buffer.data, kLabelBytes, offset) != static_cast<ssize_t>(kLabelBytes) || fdatasync(fd_)) {
    return Status::Errno(errno, fmt::format("write the label of {}", name_));
  }
  label_ = next;
  return Status::Ok();
}

Uuid Backing::cluster() const {
  std::lock_guard lock(mutex_);
  return label_.cluster;
}

Status Backing::SetCluster(const Uuid& cluster) {
  std::lock_guard lock(mutex_);
  Label label = label_;
  label.cluster = cluster;
  return WriteLabel(label);
}

uint64_t Backing::chunk_bytes() const {
  std::lock_guard lock(mutex_);
  return label_.chunk_bytes;
}

Status Backing::SetChunkBytes(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (label_.chunk_bytes != 0) {
    return Error(EINVAL,
                 "{} has chunks of {} bytes, the pool of {}: it is of another pool; if nobody needs what it holds, {}",
                 name_, label_.chunk_bytes, bytes, HowToMakeAnew());
  }
  Label label = label_;
  label.chunk_bytes = bytes;
  return WriteLabel(label);
}

uint64_t Backing::highest() const {
  std::lock_guard lock(mutex_);
  return label_.session;
}

Status Backing::Raise(uint64_t session) {
  std::lock_guard lock(mutex_);
  Label label = label_;
  label.session = session;
  return WriteLabel(label);
}

}  // namespace weft::target
