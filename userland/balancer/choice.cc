// SPDX-License-Identifier: MIT
#include "userland/balancer/choice.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <sstream>
#include <string_view>
#include <system_error>

#include "userland/balancer/policies.h"
#include "userland/base/config.h"

namespace weft::balancer {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFile = "choice.toml";
constexpr std::string_view kObjectPrefix = "policy-";
constexpr std::string_view kObjectSuffix = ".bpf.o";

// Closes a file descriptor.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

bool WriteAll(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

// The same bytes have the same name, so that a choice which is made again replaces nothing.
std::string ObjectName(std::span<const std::byte> object) {
  std::string_view text(reinterpret_cast<const char*>(object.data()), object.size());
  return fmt::format("{}{:016x}{}", kObjectPrefix, std::hash<std::string_view>()(text), kObjectSuffix);
}

// One file of the folder, not a way out of it.
bool IsObjectName(std::string_view name) {
  return name.starts_with(kObjectPrefix) && name.ends_with(kObjectSuffix) && name.find('/') == name.npos;
}

std::string Toml(const Choice& choice) {
  toml::table table;
  if (choice.object.empty()) {
    table.insert("policy", choice.policy);
  } else {
    table.insert("object", ObjectName(choice.object));
    table.insert("from", choice.from);
  }
  std::ostringstream text;
  text << "# The balancer policy of this host; `weftctl balancer set` writes this file.\n" << table << "\n";
  return text.str();
}

}  // namespace

Result<std::vector<std::byte>> ReadObject(const std::string& path) {
  File file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  if (file.fd() < 0 || fstat(file.fd(), &status) != 0) return Status::Errno(errno, path);
  if (!S_ISREG(status.st_mode)) return Error(EINVAL, "{} is not a file", path);
  if (static_cast<size_t>(status.st_size) > kObjectBytesMax) {
    return Error(EFBIG, "{} has {} bytes; a BPF object has {} at most", path, status.st_size, kObjectBytesMax);
  }
  std::vector<std::byte> bytes(static_cast<size_t>(status.st_size));
  size_t read = 0;
  while (read < bytes.size()) {
    ssize_t n = ::read(file.fd(), bytes.data() + read, bytes.size() - read);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::Errno(errno, path);
    if (n == 0) return Error(EIO, "{} became shorter while it was read; try again", path);
    read += static_cast<size_t>(n);
  }
  return bytes;
}

Result<Choice> MakeChoice(const std::string& policy) {
  Choice choice;
  if (policy.find('/') == std::string::npos) {
    if (FindPolicy(policy) == nullptr) {
      return Error(ENOENT,
                   "no balancer policy is named '{}'; there are {}; a BPF object of your own is named by its path, "
                   "as in ./{}.bpf.o",
                   policy, PolicyNames(), policy);
    }
    choice.policy = policy;
    return choice;
  }
  Result<std::vector<std::byte>> object = ReadObject(policy);
  if (!object.ok()) return object.status().Annotate("balancer policy");
  if (object->empty()) return Error(EINVAL, "balancer policy {} is empty, not a BPF object", policy);
  choice.object = *std::move(object);
  choice.from = std::filesystem::absolute(policy);
  return choice;
}

Status ChoiceStore::WriteFile(const std::string& name, std::span<const std::byte> bytes) const {
  std::string path = dir_ + "/" + name;
  std::string temporary = path + ".new";
  {
    File file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (file.fd() < 0 || !WriteAll(file.fd(), bytes) || fsync(file.fd()) != 0) {
      return Status::Errno(errno, temporary);
    }
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) return Status::Errno(errno, path);
  File dir(open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (dir.fd() < 0 || fsync(dir.fd()) != 0) return Status::Errno(errno, dir_);
  return {};
}

Status ChoiceStore::Save(const Choice& choice) {
  std::error_code error;
  fs::create_directories(dir_, error);
  if (error) return Status::Errno(error.value(), dir_);
  std::string object;
  if (!choice.object.empty()) {
    object = ObjectName(choice.object);
    if (Status s = WriteFile(object, choice.object); !s.ok()) return s;
  }
  std::string text = Toml(choice);
  if (Status s = WriteFile(std::string(kFile), std::as_bytes(std::span(text))); !s.ok()) return s;
  RemoveObjectsBut(object);
  return {};
}

// What cannot be removed does no harm: no choice names it.
void ChoiceStore::RemoveObjectsBut(const std::string& kept) const {
  std::error_code error;
  for (fs::directory_iterator it(dir_, error); !error && it != fs::directory_iterator(); it.increment(error)) {
    std::string name = it->path().filename();
    std::error_code ignored;
    if (name != kept && IsObjectName(name)) fs::remove(it->path(), ignored);
  }
}

Result<Choice> ChoiceStore::Load() const {
  std::string path = dir_ + "/" + std::string(kFile);
  Result<Config> config = Config::Load(path);
  if (!config.ok()) return config.status();
  Choice choice;
  std::string object;
  config->Read("policy", &choice.policy);
  config->Read("object", &object);
  config->Read("from", &choice.from);
  if (Status s = config->Finish(); !s.ok()) return s;
  if (choice.policy.empty() == object.empty()) {
    return Error(EINVAL, "{}: must name either a policy or an object; `weftctl balancer set` writes it anew", path);
  }
  if (object.empty()) return choice;
  if (!IsObjectName(object)) {
    return Error(EINVAL,
                 "{}: object '{}' is not a file of this folder named {}*{}; `weftctl balancer set` writes it anew",
                 path, object, kObjectPrefix, kObjectSuffix);
  }
  Result<std::vector<std::byte>> bytes = ReadObject(dir_ + "/" + object);
  if (!bytes.ok()) return bytes.status();
  choice.object = *std::move(bytes);
  if (choice.object.empty()) return Error(EINVAL, "{}/{} is empty", dir_, object);
  return choice;
}

}  // namespace weft::balancer
