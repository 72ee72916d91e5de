// SPDX-License-Identifier: MIT
#include "userland/ctl/mount_call.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "userland/base/descriptor.h"

namespace weft {
namespace {

constexpr char kType[] = "weft";

// Flags of the super block are options of the file system context, the others belong to the mount point.
constexpr std::pair<unsigned long, const char*> kSuperFlags[] = {
    {MS_RDONLY, "ro"}, {MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"}, {MS_LAZYTIME, "lazytime"}};

unsigned int MountAttributes(unsigned long flags) {
  unsigned int attributes = 0;
  if (flags & MS_RDONLY) attributes |= MOUNT_ATTR_RDONLY;
  if (flags & MS_NOSUID) attributes |= MOUNT_ATTR_NOSUID;
  if (flags & MS_NODEV) attributes |= MOUNT_ATTR_NODEV;
  if (flags & MS_NOEXEC) attributes |= MOUNT_ATTR_NOEXEC;
  if (flags & MS_NODIRATIME) attributes |= MOUNT_ATTR_NODIRATIME;
  if (flags & MS_NOATIME) attributes |= MOUNT_ATTR_NOATIME;
  if (flags & MS_STRICTATIME) attributes |= MOUNT_ATTR_STRICTATIME;
  return attributes;
}

// What the file system has logged into its context, without the level ("e ", "w ", "i ").
std::string Messages(int context) {
  std::string text;
  char line[1024];
  for (;;) {
    ssize_t bytes = read(context, line, sizeof line);
    if (bytes <= 0) return text;
    std::string_view message(line, static_cast<size_t>(bytes));
    if (message.size() > 2 && message[1] == ' ') message.remove_prefix(2);
    while (message.ends_with('\n')) message.remove_suffix(1);
    if (!text.empty()) text += "; ";
    text += message;
  }
}

Status Failure(int context, int code) {
  std::string messages = Messages(context);
  if (messages.empty()) return Status::Errno(code, "mount");
  return Error(code, "{}", messages);
}

Status Configure(int context, const MountOptions& options) {
  if (fsconfig(context, FSCONFIG_SET_STRING, "source", options.cluster.c_str(), 0) != 0) {
    return Failure(context, errno);
  }
  for (const auto& [name, value] : options.filesystem) {
    int rc = value.empty() ? fsconfig(context, FSCONFIG_SET_FLAG, name.c_str(), nullptr, 0)
                           : fsconfig(context, FSCONFIG_SET_STRING, name.c_str(), value.c_str(), 0);
    if (rc != 0) return Failure(context, errno).Annotate(fmt::format("option {}", name));
  }
  for (auto [flag, name] : kSuperFlags) {
    if ((options.flags & flag) && fsconfig(context, FSCONFIG_SET_FLAG, name, nullptr, 0) != 0) {
      return Failure(context, errno).Annotate(fmt::format("option {}", name));
    }
  }
  if (fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return Failure(context, errno);
  return {};
}

std::string DataOf(const MountOptions& options) {
  std::string data;
  for (const auto& [name, value] : options.filesystem) {
    if (!data.empty()) data += ',';
    data += value.empty() ? name : name + "=" + value;
  }
  return data;
}

Status CallOldMount(const MountOptions& options) {
  unsigned long flags = options.flags | (options.remount ? MS_REMOUNT : 0);
  std::string data = DataOf(options);
  if (mount(options.cluster.c_str(), options.directory.c_str(), kType, flags, data.c_str()) == 0) return {};
  return Status::Errno(errno, options.remount ? "remount" : "mount");
}

}  // namespace

Status CallMount(const MountOptions& options) {
  if (options.remount) return CallOldMount(options);
  Descriptor context(fsopen(kType, FSOPEN_CLOEXEC));
  if (context.get() < 0) {
    if (errno == ENOSYS || errno == EPERM) return CallOldMount(options);
    if (errno == ENODEV) {
      return Error(ENODEV, "the kernel has no file system weft: load weft.ko (modprobe weft, or insmod weft.ko)");
    }
    return Status::Errno(errno, "fsopen");
  }
  if (Status s = Configure(context.get(), options); !s.ok()) return s;
  Descriptor tree(fsmount(context.get(), FSMOUNT_CLOEXEC, MountAttributes(options.flags)));
  if (tree.get() < 0) return Failure(context.get(), errno);
  if (move_mount(tree.get(), "", AT_FDCWD, options.directory.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return Status::Errno(errno, options.directory);
  }
  return {};
}

}  // namespace weft
