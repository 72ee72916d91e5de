// SPDX-License-Identifier: MIT
//
// BpfHost by libbpf. The link of the attached policy is pinned as kPin, so that it outlives weftctl.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "userland/balancer/bpf_host.h"
#include "userland/balancer/libbpf_log.h"

namespace weft::balancer {
namespace {

constexpr const char* kBpffs = "/sys/fs/bpf";
constexpr const char* kDir = "/sys/fs/bpf/weft";
constexpr const char* kPin = "/sys/fs/bpf/weft/balancer";
constexpr const char* kNewPin = "/sys/fs/bpf/weft/balancer_new";  // renamed to kPin
constexpr uint32_t kBpfFLink = 1u << 13;                          // BPF_F_LINK: Debian 12's <linux/bpf.h> is older
constexpr const char* kOpsType = "weft_balancer_ops";

class LibbpfProgram : public Program {
 public:
  LibbpfProgram(bpf_object* object, bpf_map* ops) : object_(object), ops_(ops) {}
  ~LibbpfProgram() override { bpf_object__close(object_); }

  bpf_map* ops() const { return ops_; }

 private:
  bpf_object* object_;
  bpf_map* ops_;  // the struct_ops map, owned by the object
};

bpf_map* OpsOf(const Program& program) { return static_cast<const LibbpfProgram&>(program).ops(); }

class LibbpfLink : public Link {
 public:
  explicit LibbpfLink(bpf_link* link) : link_(link) {}
  ~LibbpfLink() override { bpf_link__destroy(link_); }  // closes the handle only

  Status Update(const Program& program) override {
    // Not bpf_link__update_map(): it takes links made by this process only. The map has its value
    // already: libbpf set it in Attach() before the kernel answered that another one is attached.
    if (bpf_link_update(bpf_link__fd(link_), bpf_map__fd(OpsOf(program)), nullptr) == 0) return {};
    return Status::Errno(errno, "swapping the policy");
  }

  Status Detach() override {
    if (bpf_link_detach(bpf_link__fd(link_)) == 0) return {};
    return Status::Errno(errno, std::string("detaching ") + kPin);
  }

  Status Pin() override {
    unlink(kNewPin);
    if (int error = bpf_link__pin(link_, kNewPin)) return Status::Errno(-error, std::string("pinning ") + kPin);
    if (rename(kNewPin, kPin) == 0) return {};
    int error = errno;
    unlink(kNewPin);
    return Status::Errno(error, std::string("pinning ") + kPin);
  }

 private:
  bpf_link* link_;
};

// libbpf has errors of its own beyond those of the system.
std::string Name(int error) {
  const char* name = strerrorname_np(error);
  if (name != nullptr) return name;
  char text[128];
  libbpf_strerror(error, text, sizeof(text));
  return text;
}

bool IsBpffs(const char* path) {
  struct statfs fs;
  return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

class LibbpfHost : public BpfHost {
 public:
  ~LibbpfHost() override {
    if (lock_fd_ >= 0) close(lock_fd_);
  }

  Status Lock() override {
    if (!IsBpffs(kBpffs) && mount("bpf", kBpffs, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) {
      return Error(errno, "{} is not a BPF file system and cannot be mounted ({}); as root: `mount -t bpf bpf {}`",
                   kBpffs, Name(errno), kBpffs);
    }
    if (mkdir(kDir, 0700) != 0 && errno != EEXIST) return Status::Errno(errno, kDir);
    lock_fd_ = open(kDir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_fd_ < 0 || flock(lock_fd_, LOCK_EX) != 0) return Status::Errno(errno, kDir);
    return {};
  }

  Result<std::unique_ptr<Program>> Load(std::span<const std::byte> bytes, const std::string& name) override {
    std::string short_name = std::filesystem::path(name).stem().stem();
    LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = short_name.c_str());
    LibbpfLog log;
    return Load(bpf_object__open_mem(bytes.data(), bytes.size(), &options), name, log);
  }

  Result<std::unique_ptr<Link>> Attach(const Program& program) override {
    LibbpfLog log;
    bpf_link* link = bpf_map__attach_struct_ops(OpsOf(program));
    if (link != nullptr) return std::unique_ptr<Link>(std::make_unique<LibbpfLink>(link));
    int error = errno == EEXIST ? EBUSY : errno;
    return Error(error, "the kernel refused to attach it: {}{}", Name(error), log.Tail());
  }

  Result<std::unique_ptr<Link>> OpenPinned() override {
    if (access(kPin, F_OK) != 0) return Status::Errno(errno, kPin);
    LibbpfLog log;
    bpf_link* link = bpf_link__open(kPin);
    if (link != nullptr) return std::unique_ptr<Link>(std::make_unique<LibbpfLink>(link));
    return Error(errno, "{} is not a BPF link ({}); remove it{}", kPin, Name(errno), log.Tail());
  }

  Status Unpin() override {
    if (unlink(kPin) == 0 || errno == ENOENT) return {};
    return Status::Errno(errno, kPin);
  }

 private:
  static Result<std::unique_ptr<Program>> Load(bpf_object* object, const std::string& name, const LibbpfLog& log) {
    if (object == nullptr) {
      return Error(errno, "balancer policy {}: cannot be opened: {}{}", name, Name(errno), log.Tail());
    }
    bpf_map* ops = nullptr;
    bpf_map* map = nullptr;
    int maps = 0;
    bpf_object__for_each_map(map, object) {
      if (bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS) continue;
      ops = map;
      ++maps;
    }
    auto program = std::make_unique<LibbpfProgram>(object, ops);
    if (maps != 1 || !(bpf_map__map_flags(ops) & kBpfFLink)) {
      return Error(EINVAL, "balancer policy {}: must hold one struct {} in SEC(\".struct_ops.link\"), has {}", name,
                   kOpsType, maps);
    }
    if (int error = bpf_object__load(object)) return Refused(name, -error, log);
    return std::unique_ptr<Program>(std::move(program));
  }

  static Status Refused(const std::string& name, int error, const LibbpfLog& log) {
    if (error == EPERM) {
      return Error(EPERM, "balancer policy {}: loading BPF needs root (CAP_BPF and CAP_PERFMON){}", name, log.Tail());
    }
    return Error(error, "balancer policy {}: the kernel refused it ({}){}", name, Name(error), log.Tail());
  }

  int lock_fd_ = -1;
};

}  // namespace

std::unique_ptr<BpfHost> MakeBpfHost() { return std::make_unique<LibbpfHost>(); }

}  // namespace weft::balancer
