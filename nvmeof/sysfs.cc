// SPDX-License-Identifier: MIT
#include "nvmeof/sysfs.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "userland/base/uuid.h"

namespace weft::nvmeof {
namespace {

namespace fs = std::filesystem;

constexpr size_t kAttributeBytesMax = 4096;  // the kernel writes a page
constexpr uint64_t kSectorBytes = 512;       // the unit of "size", whatever the block size is

// "nvme0", "nvme0n1" or "nvme0c3n1": a controller, a namespace's own device, and the hidden one of a path.
struct DeviceName {
  std::string_view instance;
  std::string_view controller;
  std::string_view number;
  bool is_controller() const { return controller.empty() && number.empty(); }
  bool is_device() const { return controller.empty() && !number.empty(); }
  bool is_path() const { return !controller.empty() && !number.empty(); }
};

// Takes PREFIX and digits off the front of *text; empty, and nothing taken, if it begins otherwise.
std::string_view TakeNumber(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return {};
  size_t end = std::min(text->find_first_not_of("0123456789", prefix.size()), text->size());
  std::string_view digits = text->substr(prefix.size(), end - prefix.size());
  if (!digits.empty()) text->remove_prefix(end);
  return digits;
}

// The parts point into `name`.
std::optional<DeviceName> ParseDeviceName(std::string_view name) {
  DeviceName parts;
  parts.instance = TakeNumber(&name, "nvme");
  parts.controller = TakeNumber(&name, "c");
  parts.number = TakeNumber(&name, "n");
  if (parts.instance.empty() || !name.empty()) return {};
  return parts;
}

bool IsController(std::string_view name) {
  auto parts = ParseDeviceName(name);
  return parts && parts->is_controller();
}
bool IsDevice(std::string_view name) {
  auto parts = ParseDeviceName(name);
  return parts && parts->is_device();
}
bool IsSubsystem(std::string_view name) { return !TakeNumber(&name, "nvme-subsys").empty() && name.empty(); }

// Of the multipath head `head`.
bool IsPathOf(std::string_view name, std::string_view head) {
  auto path = ParseDeviceName(name);
  auto whole = ParseDeviceName(head);
  return path && whole && path->is_path() && path->instance == whole->instance && path->number == whole->number;
}

// By number, so that nvme10 comes after nvme9.
bool ByNumber(const std::string& a, const std::string& b) { return a.size() != b.size() ? a.size() < b.size() : a < b; }

template <typename Predicate>
std::vector<std::string> List(const std::string& folder, Predicate wanted) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename();
    if (wanted(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end(), ByNumber);
  return names;
}

// None: there is no such attribute, or what it belongs to is going away.
std::optional<std::string> Read(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::array<char, kAttributeBytesMax> buffer;
  ssize_t n = read(fd, buffer.data(), buffer.size());
  close(fd);
  if (n < 0) return {};
  while (n > 0 && (buffer[n - 1] == '\n' || buffer[n - 1] == ' ')) --n;
  return std::string(buffer.data(), n);
}

std::string ReadOr(const std::string& path, std::string_view otherwise) {
  return Read(path).value_or(std::string(otherwise));
}

// Reads the attributes of one namespace and remembers the first failure.
class Attributes {
 public:
  explicit Attributes(std::string folder) : folder_(std::move(folder)) {}

  // 0 if there is none.
  uint64_t Number(const std::string& name) {
    auto text = Read(folder_ + "/" + name);
    if (!text) return 0;
    uint64_t value = 0;
    auto [end, err] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (err != std::errc() || end != text->data() + text->size()) Wrong(name, *text, "a number");
    return value;
  }
  uint64_t Required(const std::string& name) {
    if (!Has(name)) gone_ = true;
    return Number(name);
  }
  Uuid Id(const std::string& name) {
    auto text = Read(folder_ + "/" + name);
    if (!text) return {};
    Result<Uuid> id = ParseUuid(*text);
    if (id.ok()) return *id;
    Wrong(name, *text, "a UUID");
    return {};
  }
  dev_t DeviceNumber() {
    auto text = Read(folder_ + "/dev");
    if (!text) {
      gone_ = true;
      return 0;
    }
    unsigned major = 0;
    unsigned minor = 0;
    char rest;
    if (sscanf(text->c_str(), "%u:%u%c", &major, &minor, &rest) != 2) Wrong("dev", *text, "MAJOR:MINOR");
    return makedev(major, minor);
  }
  std::string Text(const std::string& name) { return ReadOr(folder_ + "/" + name, ""); }

  bool gone() const { return gone_; }
  const Status& status() const { return status_; }

 private:
  bool Has(const std::string& name) const { return access((folder_ + "/" + name).c_str(), F_OK) == 0; }
  void Wrong(const std::string& name, const std::string& text, std::string_view wanted) {
    if (status_.ok()) status_ = Error(EPROTO, "{}/{} is '{}' and not {}", folder_, name, text, wanted);
  }

  std::string folder_;
  bool gone_ = false;
  Status status_;
};

// "traddr=10.0.0.1,trsvcid=4420,src_addr=10.0.0.9"
std::optional<Endpoint> ParseControllerAddress(const std::string& transport, std::string_view text) {
  Endpoint endpoint;
  if (transport != "rdma" && transport != "tcp") return {};
  endpoint.transport = transport == "rdma" ? Transport::kRdma : Transport::kTcp;
  while (!text.empty()) {
    std::string_view field = text.substr(0, text.find(','));
    text.remove_prefix(std::min(field.size() + 1, text.size()));
    std::string_view value = field.substr(std::min(field.find('=') + 1, field.size()));
    if (field.starts_with("traddr=")) endpoint.host = value;
    if (field.starts_with("trsvcid=")) std::from_chars(value.data(), value.data() + value.size(), endpoint.port);
  }
  if (endpoint.host.empty()) return {};
  return endpoint;
}

std::optional<Controller> ReadController(const std::string& folder, const std::string& name) {
  auto endpoint = ParseControllerAddress(ReadOr(folder + "/transport", ""), ReadOr(folder + "/address", ""));
  auto state = Read(folder + "/state");
  if (!endpoint || !state) return {};
  return Controller{.name = name,
                    .endpoint = *endpoint,
                    .state = *state,
                    .hostnqn = ReadOr(folder + "/hostnqn", ""),
                    .hostid = ReadOr(folder + "/hostid", "")};
}

std::vector<Controller> ReadControllers(const std::string& subsystem) {
  std::vector<Controller> controllers;
  for (const std::string& name : List(subsystem, IsController)) {
    if (auto controller = ReadController(subsystem + "/" + name, name)) controllers.push_back(*std::move(controller));
  }
  return controllers;
}

// path_device: the namespace on this controller. Where ANA is not used all paths are as good.
Path ReadPath(const Controller& controller, const std::string& path_device) {
  return {.controller = controller.name,
          .endpoint = controller.endpoint,
          .state = controller.state,
          .ana_state = ReadOr(path_device + "/ana_state", "optimized")};
}

void ReadLimits(Attributes* attributes, Namespace* ns) {
  ns->physical_block_bytes = attributes->Number("queue/physical_block_size");
  ns->atomic_write_bytes = attributes->Number("queue/atomic_write_max_bytes");
  ns->request_bytes_max = std::min<uint64_t>(attributes->Number("queue/max_sectors_kb") * 1024, UINT32_MAX);
  ns->discard_bytes_max = attributes->Number("queue/discard_max_bytes");
  ns->write_zeroes_bytes_max = attributes->Number("queue/write_zeroes_max_bytes");
  ns->write_cache = attributes->Text("queue/write_cache") == "write back";
  ns->fua = attributes->Number("queue/fua") != 0;
  // the last that is read: queue/ goes before everything else does
  ns->block_bytes = attributes->Required("queue/logical_block_size");
}

// Without paths. None: it is going away.
Result<std::optional<Namespace>> ReadNamespace(const std::string& folder, const std::string& name,
                                               std::string_view nqn) {
  Attributes attributes(folder);
  Namespace ns;
  ns.device = "/dev/" + name;
  ns.nqn = nqn;
  ns.device_number = attributes.DeviceNumber();
  ns.nsid = attributes.Required("nsid");
  ns.bytes = attributes.Required("size") * kSectorBytes;
  ns.read_only = attributes.Number("ro") != 0;
  ns.id.nguid = attributes.Id("nguid");
  ns.id.uuid = attributes.Id("uuid");
  // the kernel shows the NGUID as uuid where there is no UUID; the wwid says which of the two it is
  std::string wwid = attributes.Text("wwid");
  if (!wwid.empty() && !wwid.starts_with("uuid.")) ns.id.uuid = {};
  ReadLimits(&attributes, &ns);
  if (!attributes.status().ok()) return attributes.status();
  if (attributes.gone()) return std::optional<Namespace>();
  return std::optional(std::move(ns));
}

// The paths of the multipath head `name`, and what it does not say itself.
void ReadPaths(const std::string& subsystem, const std::string& name, const std::vector<Controller>& controllers,
               Namespace* ns) {
  uint64_t atomic_bytes = UINT64_MAX;
  for (const Controller& controller : controllers) {
    std::string folder = subsystem + "/" + controller.name;
    auto is_path = [&](std::string_view device) { return IsPathOf(device, name); };
    for (const std::string& device : List(folder, is_path)) {
      ns->paths.push_back(ReadPath(controller, folder + "/" + device));
      Attributes attributes(folder + "/" + device);
      atomic_bytes = std::min(atomic_bytes, attributes.Number("queue/atomic_write_max_bytes"));
    }
  }
  // in Linux 6.12 a head has no atomic writes of its own, whatever its paths promise
  if (ns->atomic_write_bytes == 0 && !ns->paths.empty()) ns->atomic_write_bytes = atomic_bytes;
}

Status ReadHeads(const std::string& subsystem, std::string_view nqn, const std::vector<Controller>& controllers,
                 std::vector<Namespace>* namespaces) {
  for (const std::string& name : List(subsystem, IsDevice)) {
    auto ns = ReadNamespace(subsystem + "/" + name, name, nqn);
    if (!ns.ok()) return ns.status();
    if (!*ns) continue;
    ReadPaths(subsystem, name, controllers, &**ns);
    namespaces->push_back(**std::move(ns));
  }
  return {};
}

// Devices that belong to one controller.
Status ReadOwnDevices(const std::string& subsystem, std::string_view nqn, const Controller& controller,
                      std::vector<Namespace>* namespaces) {
  std::string folder = subsystem + "/" + controller.name;
  for (const std::string& name : List(folder, IsDevice)) {
    auto ns = ReadNamespace(folder + "/" + name, name, nqn);
    if (!ns.ok()) return ns.status();
    if (!*ns) continue;
    (*ns)->paths = {ReadPath(controller, folder + "/" + name)};
    namespaces->push_back(**std::move(ns));
  }
  return {};
}

}  // namespace

std::vector<std::string> Sysfs::SubsystemFolders() const {
  std::string parent = root_ + "/class/nvme-subsystem/";
  std::vector<std::string> folders = List(parent, IsSubsystem);
  for (std::string& folder : folders) folder.insert(0, parent);
  return folders;
}

std::vector<Controller> Sysfs::Controllers(std::string_view nqn) const {
  std::vector<Controller> all;
  for (const std::string& folder : SubsystemFolders()) {
    if (Read(folder + "/subsysnqn") != nqn) continue;
    for (Controller& controller : ReadControllers(folder)) all.push_back(std::move(controller));
  }
  return all;
}

std::vector<Controller> Sysfs::AllControllers() const {
  std::vector<Controller> all;
  for (const std::string& folder : SubsystemFolders()) {
    for (Controller& controller : ReadControllers(folder)) all.push_back(std::move(controller));
  }
  return all;
}

Result<std::vector<Namespace>> Sysfs::Namespaces(std::string_view nqn) const {
  std::vector<Namespace> namespaces;
  for (const std::string& folder : SubsystemFolders()) {
    if (Read(folder + "/subsysnqn") != nqn) continue;
    std::vector<Controller> controllers = ReadControllers(folder);
    Status status = ReadHeads(folder, nqn, controllers, &namespaces);
    for (const Controller& controller : controllers) {
      if (status.ok()) status = ReadOwnDevices(folder, nqn, controller, &namespaces);
    }
    if (!status.ok()) return status;
  }
  std::stable_sort(namespaces.begin(), namespaces.end(),
                   [](const Namespace& a, const Namespace& b) { return a.nsid < b.nsid; });
  return namespaces;
}

std::vector<std::string> Sysfs::ControllerNames() const { return List(root_ + "/class/nvme", IsController); }

bool Sysfs::HasModule(std::string_view name) const {
  return access(fmt::format("{}/module/{}", root_, name).c_str(), F_OK) == 0;
}

Status Sysfs::Set(std::string_view controller, std::string_view attribute, std::string_view value) const {
  std::string path = fmt::format("{}/class/nvme/{}/{}", root_, controller, attribute);
  int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return Status::Errno(errno, path);
  ssize_t n = write(fd, value.data(), value.size());
  int error = n < 0 ? errno : EIO;
  close(fd);
  if (n == static_cast<ssize_t>(value.size())) return {};
  return Status::Errno(error, fmt::format("{}: writing '{}'", path, value));
}

}  // namespace weft::nvmeof
