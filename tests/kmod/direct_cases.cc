// SPDX-License-Identifier: MIT
#include <time.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <thread>

#include "tests/kmod/device.h"
#include "tests/kmod/mounted.h"

namespace weft::kmod_test {
namespace {

constexpr uint64_t kOffset = 1 << 20;  // of the data area
constexpr uint64_t kForever = UINT64_MAX;

// The first line that it prints; nothing: it failed.
std::optional<std::string> Output(const std::string& command) {
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return {};
  std::array<char, 128> line{};
  if (!fgets(line.data(), line.size(), pipe)) line[0] = 0;
  if (pclose(pipe) != 0) return {};
  std::string text = line.data();
  return text.substr(0, text.find('\n'));
}

bool Runs(const std::string& command) { return Output(command).has_value(); }

// A block device whose bytes are a file's, and which can be made to fail.
class Disk {
 public:
  explicit Disk(const std::string& name) : name_("kmodtest-" + name), file_("/run/" + name_) {
    int fd = open(file_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK_EQ(ftruncate(fd, kOffset + kPoolBytes), 0);
    close(fd);
    auto loop = Output("modprobe -a loop dm-mod && losetup --find --show " + file_);
    if (!CHECK(loop.has_value())) return;
    loop_ = *loop;
    CHECK(Runs("dmsetup create --noudevsync " + name_ + " --table '" + Table("linear " + loop_ + " 0") + "'"));
    CHECK(Runs("dmsetup mknodes " + name_));
  }
  ~Disk() {
    CHECK(Runs("dmsetup remove --noudevsync --retry " + name_));
    CHECK(Runs("losetup --detach " + loop_));
    std::filesystem::remove(file_);
  }
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  std::string path() const { return "/dev/mapper/" + name_; }
  void Fail(bool fail) {
    std::string table = Table(fail ? "error" : "linear " + loop_ + " 0");
    CHECK(Runs("dmsetup suspend --noudevsync " + name_ + " && dmsetup load " + name_ + " --table '" + table +
               "' && dmsetup resume --noudevsync " + name_));
  }
  bool Holds(uint64_t offset, size_t bytes, uint32_t seed) const {
    Buffer buffer = NewBuffer(bytes);
    int fd = open(file_.c_str(), O_RDONLY | O_CLOEXEC);
    bool read = pread(fd, buffer.get(), bytes, static_cast<off_t>(kOffset + offset)) == static_cast<ssize_t>(bytes);
    close(fd);
    return read && !std::memcmp(buffer.get(), Pattern(bytes, seed).get(), bytes);
  }

 private:
  static std::string Table(const std::string& target) {
    return "0 " + std::to_string((kOffset + kPoolBytes) / 512) + " " + target;
  }
  const std::string name_;
  const std::string file_;
  std::string loop_;
};

uint64_t BoottimeNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::string Direct(uint32_t target) {
  return Sysfs(std::string(kCluster) + "/targets/" + std::to_string(target) + "/direct");
}

void DeviceIsChecked() {
  Disk disk("checked");
  Attachment a(kCluster, 1);
  if (!CHECK_EQ(a.error(), 0)) return;
  int fd = open(disk.path().c_str(), O_RDWR | O_CLOEXEC);
  int reader = open(disk.path().c_str(), O_RDONLY | O_CLOEXEC);
  int file = open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK(fd >= 0 && reader >= 0 && file >= 0);
  auto set = [&](auto change) {
    weft_ioc_device device{.target = 4, .fd = fd, .data_offset = kOffset, .flags = WEFT_DEVICE_FUA, .reserved = 0};
    change(&device);
    return Ioctl(a.control(), WEFT_IOC_DEVICE, &device);
  };
  CHECK_EQ(set([](weft_ioc_device* d) { d->target = 0; }), EINVAL);
  CHECK_EQ(set([](weft_ioc_device* d) { d->fd = -2; }), EINVAL);
  CHECK_EQ(set([](weft_ioc_device* d) { d->flags = WEFT_DEVICE_FUA << 1; }), EINVAL);
  CHECK_EQ(set([](weft_ioc_device* d) { d->reserved = 1; }), EINVAL);
  CHECK_EQ(set([](weft_ioc_device* d) { d->fd = 12345; }), EBADF);
  CHECK_EQ(set([&](weft_ioc_device* d) { d->fd = reader; }), EBADF);
  CHECK_EQ(set([&](weft_ioc_device* d) { d->fd = file; }), ENOTBLK);
  CHECK_EQ(set([](weft_ioc_device* d) { d->data_offset = 512; }), EINVAL);
  CHECK_EQ(set([](weft_ioc_device* d) { d->data_offset = kOffset + kPoolBytes; }), EINVAL);
  CHECK_EQ(Ioctl(a.queue_fd(0), WEFT_IOC_DEVICE, nullptr), EINVAL);
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_DEVICE, nullptr), EFAULT);
  CHECK_EQ(set([](weft_ioc_device*) {}), 0);
  CHECK_EQ(Direct(4), "1 0");
  CHECK_EQ(set([](weft_ioc_device*) {}), 0);
  CHECK_EQ(set([](weft_ioc_device* d) { d->fd = -1; }), 0);
  CHECK_EQ(Direct(4), "0 0");
  CHECK_EQ(set([](weft_ioc_device* d) { d->fd = -1; }), 0);
  close(file);
  close(reader);
  close(fd);
}

void LeaseIsTold() {
  Attachment a(kCluster, 1);
  if (!CHECK_EQ(a.error(), 0)) return;
  std::string left = std::string(kCluster) + "/lease_ms";
  CHECK_EQ(Sysfs(left), "0");
  weft_ioc_lease lease{.until_ns = BoottimeNs() + 60'000'000'000, .reserved = 1};
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_LEASE, &lease), EINVAL);
  lease.reserved = 0;
  CHECK_EQ(Ioctl(a.queue_fd(0), WEFT_IOC_LEASE, &lease), EINVAL);
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_LEASE, nullptr), EFAULT);
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_LEASE, &lease), 0);
  CHECK(std::stoi("0" + Sysfs(left)) > 50'000 && std::stoi("0" + Sysfs(left)) <= 60'000);
  lease.until_ns = 0;
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_LEASE, &lease), 0);
  CHECK_EQ(Sysfs(left), "0");
}

void DeviceIsUsed() {
  Disk disk("used");
  Mounted m;
  CHECK_EQ(m.SetDevice(1, disk.path(), kOffset), 0);
  CHECK(m.Write(4096, 65536, 1));
  CHECK(disk.Holds(4096, 65536, 1));
  CHECK(m.Holds(1, 4096, 65536, 1));  // the other copy has none
  CHECK_EQ(m.world()->targets[0].writes, 0u);
  for (int i = 0; i < 12; ++i) CHECK(m.Reads(4096, 65536, 1));
  CHECK_EQ(m.world()->targets[0].reads, 0u);
  CHECK(m.world()->targets[1].reads > 0u);

  // A copy that is being made goes by who makes it.
  Chunk& chunk = m.world()->chunks[0];
  chunk.states[0] = WEFT_COPY_RESYNCING;
  chunk.version++;
  CHECK_EQ(m.Push(m.Map(0)), 0);
  CHECK(m.Write(4096, 65536, 2));
  CHECK(disk.Holds(4096, 65536, 1));
  CHECK(m.Holds(0, 4096, 65536, 2));

  CHECK_EQ(m.SetDevice(1, ""), 0);
  CHECK(m.Write(kChunkBytes, 4096, 3));
  CHECK(m.Holds(0, kChunkBytes, 4096, 3));
}

void DeviceFails() {
  Disk disk("fails");
  Mounted m;
  CHECK_EQ(m.SetDevice(1, disk.path(), kOffset), 0);
  CHECK_EQ(m.SetDevice(2, disk.path(), kOffset), 0);
  disk.Fail(true);
  CHECK(m.Write(0, 65536, 1));  // the agent got through
  CHECK(m.Holds(0, 0, 65536, 1));
  CHECK(m.Holds(1, 0, 65536, 1));
  CHECK(m.Reads(0, 65536, 1));
  CHECK_EQ(m.world()->marked_stale, 0u);
  m.world()->targets[0].write_error = EIO;
  CHECK(m.Write(0, 65536, 2));  // and its answer counts
  CHECK_EQ(m.world()->marked_stale, 1u);
  m.world()->targets[0].write_error = 0;
  disk.Fail(false);
}

void DeviceOutlivesTheAgent() {
  Disk one("one"), two("two");
  Mounted m;
  CHECK_EQ(m.SetDevice(1, one.path(), kOffset), 0);
  CHECK_EQ(m.SetDevice(2, two.path(), kOffset), 0);
  CHECK(m.Write(0, 65536, 1));  // opens the chunk
  m.KillAgent();
  CHECK(m.Write(0, 65536, 2));
  CHECK(m.Reads(0, 65536, 2));
  CHECK(one.Holds(0, 65536, 2));
  CHECK(two.Holds(0, 65536, 2));
  m.StartAgent();
  CHECK(m.Write(0, 65536, 3));
  CHECK(one.Holds(0, 65536, 3));
}

void DeviceWithinTheLease() {
  Disk disk("lease");
  Mounted m;
  m.world()->targets[0].flags = WEFT_TARGET_LEASED;
  m.TellTargets();
  CHECK_EQ(m.SetDevice(1, disk.path(), kOffset), 0);
  CHECK(m.Write(0, 4096, 1));
  CHECK(m.Holds(0, 0, 4096, 1));  // there is none
  CHECK_EQ(m.SetLease(kForever), 0);
  CHECK(m.Write(0, 4096, 2));
  CHECK(disk.Holds(0, 4096, 2));
  CHECK_EQ(m.SetLease(BoottimeNs() + 100'000'000), 0);
  CHECK(Eventually([] { return Sysfs(std::string(kCluster) + "/lease_ms") == "0"; }));
  CHECK(m.Write(0, 4096, 3));
  CHECK(disk.Holds(0, 4096, 2));
  CHECK(m.Holds(0, 0, 4096, 3));

  CHECK_EQ(m.SetLease(BoottimeNs() + 100'000'000), 0);
  m.KillAgent();
  CHECK(Eventually([] { return Sysfs(std::string(kCluster) + "/lease_ms") == "0"; }));
  std::atomic<bool> wrote = false;
  std::thread writer([&] { wrote = m.Write(0, 4096, 4); });
  CHECK(Eventually([] { return Sysfs(std::string(kCluster) + "/parked") != "0"; }));
  CHECK(!wrote);
  CHECK(disk.Holds(0, 4096, 2));
  m.StartAgent();
  writer.join();
  CHECK(wrote);
}

// A map that nobody goes by any more.
void Settles() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  CHECK_EQ(m.Call(WEFT_IOC_SETTLE), 0);
  m.world()->hold_blocks = true;
  std::atomic<bool> wrote = false;
  std::thread writer([&] { wrote = m.Write(0, 4096, 2); });
  CHECK(Eventually([&] { return m.world()->held == 2; }));
  CHECK_EQ(m.Call(WEFT_IOC_SETTLE), EAGAIN);
  m.world()->hold_blocks = false;
  writer.join();
  CHECK(wrote);
  CHECK_EQ(m.Call(WEFT_IOC_SETTLE), 0);
}

}  // namespace

std::vector<Case> DirectCases() {
  return {
      {"device_is_checked", DeviceIsChecked},
      {"lease_is_told", LeaseIsTold},
      {"device_is_used", DeviceIsUsed},
      {"device_fails", DeviceFails},
      {"device_outlives_the_agent", DeviceOutlivesTheAgent},
      {"device_within_the_lease", DeviceWithinTheLease},
      {"settles", Settles},
  };
}

}  // namespace weft::kmod_test
