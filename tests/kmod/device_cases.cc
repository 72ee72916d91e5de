// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <sstream>

#include "tests/kmod/cases.h"
#include "tests/kmod/check.h"
#include "tests/kmod/device.h"

namespace weft::kmod_test {
namespace {

constexpr const char* kCluster = "devicetest";

int AttachError(const std::function<void(weft_ioc_attach*)>& change) {
  weft_ioc_attach args = AttachArgs(kCluster);
  change(&args);
  int fd = OpenDevice();
  int error = Ioctl(fd, WEFT_IOC_ATTACH, &args);
  close(fd);
  return error;
}

void AttachLimits() {
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->version_major++; }), EPROTO);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->version_minor++; }), 0);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->flags = 1; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->reserved[1] = 1; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->queues = 0; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->queues = WEFT_QUEUES_MAX + 1; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->depth = 100; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->depth = 32; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->depth = 2 * WEFT_DEPTH_MAX; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->pool_bytes = 4 << 20; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->pool_bytes = 8ull << 30; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->pool_bytes += 4096; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { a->cluster[0] = 0; }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { std::memset(a->cluster, 'a', sizeof(a->cluster)); }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { std::strcpy(a->cluster, "a/b"); }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { std::strcpy(a->cluster, ".."); }), EINVAL);
  CHECK_EQ(AttachError([](weft_ioc_attach* a) { std::strcpy(a->cluster, "balancer"); }), EINVAL);
  int fd = OpenDevice();
  CHECK_EQ(Ioctl(fd, WEFT_IOC_ATTACH, nullptr), EFAULT);
  CHECK_EQ(Ioctl(fd, WEFT_IOC_READY, nullptr), EINVAL);
  CHECK_EQ(Ioctl(fd, WEFT_IOC_COMPLETE, nullptr), EINVAL);
  CHECK_EQ(Ioctl(fd, 0x5799, nullptr), ENOTTY);
  CHECK(mmap(nullptr, 8 << 20, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
  close(fd);
  CHECK(!SysfsHas(kCluster));
}

void Geometry() {
  Attachment a(kCluster, 3, 128, 8 << 20);
  if (!CHECK_EQ(a.error(), 0)) return;
  CHECK_EQ(a.args().depth_granted, 128u);
  CHECK_EQ(a.args().pool_bytes_granted, 8u << 20);
  CHECK_EQ(a.args().session, 0u);
  CHECK(a.args().epoch >= 1);
  for (uint32_t i = 0; i < 3; ++i) {
    CHECK_EQ(a.ring(i)->entries, 128u);
    CHECK_EQ(a.ring(i)->sq_tail, 0u);
    CHECK(a.ring(i)->cq_offset + 128 * sizeof(weft_cqe) <= a.args().ring_bytes);
    CHECK(a.ring(i)->sq_offset + 128 * sizeof(weft_sqe) <= a.ring(i)->cq_offset);
  }
  for (uint64_t i = 0; i < a.args().pool_bytes_granted; i += 4096) {
    if (a.pool()[i] != 0) CHECK(!"the pool is zeroed");
    a.pool()[i] = 1;
  }
  CHECK_EQ(Sysfs(std::string(kCluster) + "/agent"), "attached");
  CHECK_EQ(Sysfs(std::string(kCluster) + "/inflight"), "0");
  CHECK_EQ(Sysfs(std::string(kCluster) + "/epoch"), std::to_string(a.args().epoch));
}

void Mappings() {
  Attachment a(kCluster, 1);
  if (!CHECK_EQ(a.error(), 0)) return;
  auto fails = [](int fd, size_t bytes, int flags, off_t offset) {
    return mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, offset) == MAP_FAILED;
  };
  CHECK(fails(a.control(), 4096, MAP_SHARED, 0));
  CHECK(fails(a.control(), 16 << 20, MAP_SHARED, 0));
  CHECK(fails(a.control(), 8 << 20, MAP_PRIVATE, 0));
  CHECK(fails(a.control(), 8 << 20, MAP_SHARED, 4096));
  CHECK(fails(a.queue_fd(0), a.args().ring_bytes + 4096, MAP_SHARED, 0));
  CHECK(fails(a.queue_fd(0), a.args().ring_bytes, MAP_PRIVATE, 0));
  pid_t child = fork();
  if (child == 0) _exit(msync(a.pool(), 4096, MS_ASYNC) == 0);  // not inherited: ENOMEM
  int status = 0;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}

void OneAgent() {
  Attachment a(kCluster, 2);
  if (!CHECK_EQ(a.error(), 0)) return;
  CHECK_EQ(AttachError([](weft_ioc_attach*) {}), EBUSY);
  weft_ioc_attach args = AttachArgs(kCluster);
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_ATTACH, &args), EBUSY);
  int fd = OpenDevice();
  CHECK_EQ(OpenQueue(fd, a.control(), 2), EINVAL);
  CHECK_EQ(OpenQueue(fd, a.control(), 1), EBUSY);
  CHECK_EQ(OpenQueue(fd, a.queue_fd(0), 0), EINVAL);
  CHECK_EQ(OpenQueue(fd, fd, 0), EINVAL);
  CHECK_EQ(OpenQueue(fd, -1, 0), EBADF);
  CHECK_EQ(OpenQueue(fd, 0, 0), EINVAL);  // not one of ours
  CHECK_EQ(OpenQueue(a.queue_fd(0), a.control(), 0), EBUSY);
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_COMPLETE, nullptr), EINVAL);
  CHECK_EQ(Ioctl(a.queue_fd(0), WEFT_IOC_READY, nullptr), EINVAL);
  close(fd);
}

void ReadyNeedsAllQueues() {
  int control = OpenDevice();
  weft_ioc_attach args = AttachArgs(kCluster);
  args.queues = 2;
  CHECK_EQ(Ioctl(control, WEFT_IOC_ATTACH, &args), 0);
  int first = OpenDevice(), second = OpenDevice();
  CHECK_EQ(OpenQueue(first, control, 0), 0);
  CHECK_EQ(Ioctl(control, WEFT_IOC_READY, nullptr), EINVAL);
  CHECK_EQ(OpenQueue(second, control, 1), 0);
  CHECK_EQ(Ioctl(control, WEFT_IOC_READY, nullptr), 0);
  CHECK_EQ(Ioctl(control, WEFT_IOC_READY, nullptr), 0);
  close(second);  // a lost queue ends the attachment
  CHECK_EQ(Ioctl(first, WEFT_IOC_COMPLETE, nullptr), ESHUTDOWN);
  CHECK_EQ(Ioctl(control, WEFT_IOC_READY, nullptr), ESHUTDOWN);
  pollfd poller{first, POLLIN, 0};
  CHECK_EQ(poll(&poller, 1, 1000), 1);
  CHECK(poller.revents & POLLHUP);
  CHECK_EQ(Sysfs(std::string(kCluster) + "/agent"), "detached");
  close(first);
  close(control);
  CHECK(!SysfsHas(kCluster));
}

void BadCompletions() {
  Attachment a(kCluster, 1);
  if (!CHECK_EQ(a.error(), 0) || !CHECK_EQ(a.Ready(), 0)) return;
  CHECK_EQ(a.Complete(0), 0);
  uint64_t count = 0;
  for (uint64_t tag : {0ull, 1ull, 255ull, 256ull, 0xffffffffull, 1ull << 32, ~0ull}) {
    weft_cqe cqe{};
    cqe.tag = tag;
    cqe.epoch = a.args().epoch;
    a.Put(0, cqe);
    CHECK_EQ(a.Complete(0), -EINVAL);
    ++count;
  }
  CHECK_EQ(a.ring(0)->cq_head, a.ring(0)->cq_tail);
  a.ring(0)->cq_tail += a.ring(0)->entries + 1;  // beyond all reason
  CHECK_EQ(a.Complete(0), -EINVAL);
  ++count;
  a.ring(0)->cq_tail = a.ring(0)->cq_head;
  a.ring(0)->cq_head = 12345;  // not ours to write: the kernel does not look
  a.ring(0)->sq_tail = 54321;
  CHECK_EQ(a.Complete(0), 0);
  CHECK_EQ(Sysfs(std::string(kCluster) + "/bad_completions"), std::to_string(count));
}

void Targets() {
  Attachment a(kCluster, 1);
  if (!CHECK_EQ(a.error(), 0)) return;
  weft_target_info info{};
  auto set = [&](const std::function<void(weft_target_info*)>& change) {
    weft_target_info changed = info;
    change(&changed);
    return a.SetTargets(&changed, 1);
  };
  info.id = 5;
  info.state = WEFT_TARGET_UP;
  info.weight = 100;
  std::strcpy(info.name, "five");
  CHECK_EQ(set([](weft_target_info* i) { i->id = 0; }), EINVAL);
  CHECK_EQ(set([](weft_target_info* i) { i->state = 0; }), EINVAL);
  CHECK_EQ(set([](weft_target_info* i) { i->state = 3; }), EINVAL);
  CHECK_EQ(set([](weft_target_info* i) { i->load = 1001; }), EINVAL);
  CHECK_EQ(set([](weft_target_info* i) { i->flags = WEFT_TARGET_LEASED << 1; }), EINVAL);
  CHECK_EQ(set([](weft_target_info* i) { i->paths_usable = 1; }), EINVAL);
  CHECK_EQ(set([](weft_target_info* i) { i->reserved1 = 1; }), EINVAL);
  CHECK_EQ(set([](weft_target_info* i) { std::memset(i->name, 'x', sizeof(i->name)); }), EINVAL);
  CHECK_EQ(a.SetTargets(nullptr, 1), EFAULT);
  CHECK_EQ(a.SetTargets(&info, WEFT_TARGETS_MAX + 1), EINVAL);
  CHECK_EQ(a.SetTargets(nullptr, 0), 0);
  CHECK(!SysfsHas(std::string(kCluster) + "/targets/5"));
  CHECK_EQ(set([](weft_target_info*) {}), 0);
  CHECK_EQ(set([](weft_target_info* i) { i->state = WEFT_TARGET_DOWN; }), 0);
  CHECK_EQ(Sysfs(std::string(kCluster) + "/targets/5/name"), "five");
  CHECK_EQ(Sysfs(std::string(kCluster) + "/targets/5/stat"), "2 0 0 0 0 0 0 0");
  CHECK_EQ(set([](weft_target_info* i) {
             i->flags = WEFT_TARGET_LOCAL | WEFT_TARGET_REPORTED;
             i->zone = 9;
             i->queue_depth = 7;
             i->load = 500;
             i->device_latency_us = 80;
             i->report_age_ms = 1000;
             i->incarnation = 0xabc;
           }),
           0);
  auto report = [] {
    std::istringstream words(Sysfs(std::string(kCluster) + "/targets/5/report"));
    return std::vector<std::string>(std::istream_iterator<std::string>(words), {});
  };
  std::vector<std::string> now = report();
  if (!CHECK_EQ(now.size(), 7u)) return;
  CHECK_EQ(now[0] + " " + now[1] + " " + now[2] + " " + now[3] + " " + now[4], "3 9 7 500 80");
  CHECK_EQ(now[6], "abc");
  CHECK(std::stoi(now[5]) >= 1000);
  CHECK(Eventually([&] { return std::stoi(report()[5]) >= 1100; }));  // it grows older by itself
  CHECK_EQ(Sysfs(std::string(kCluster) + "/targets/5/paths"), "0 0");
  CHECK_EQ(set([](weft_target_info* i) {
             i->paths = 3;
             i->paths_usable = 2;
           }),
           0);
  CHECK_EQ(Sysfs(std::string(kCluster) + "/targets/5/paths"), "2 3");
  CHECK_EQ(set([](weft_target_info*) {}), 0);  // an agent that has just started
  CHECK_EQ(report()[6], "abc");
}

void Chunks() {
  Attachment a(kCluster, 1);
  if (!CHECK_EQ(a.error(), 0)) return;
  std::vector<weft_chunk> chunks(WEFT_CHUNKS_PER_CALL + 1);
  CHECK_EQ(a.SetChunks(chunks.data(), WEFT_CHUNKS_PER_CALL), 0);  // nothing is mounted, nothing is cached
  CHECK_EQ(a.SetChunks(chunks.data(), WEFT_CHUNKS_PER_CALL + 1), EINVAL);
  CHECK_EQ(a.SetChunks(nullptr, 1), EFAULT);
  CHECK_EQ(a.SetChunks(nullptr, 0), 0);
  weft_ioc_chunks args{};
  args.reserved = 1;
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_CHUNKS, &args), EINVAL);
  args.reserved = 0;
  CHECK_EQ(Ioctl(a.queue_fd(0), WEFT_IOC_CHUNKS, &args), EINVAL);
  CHECK_EQ(Ioctl(a.control(), WEFT_IOC_CHUNKS, nullptr), EFAULT);
  int fd = OpenDevice();
  CHECK_EQ(Ioctl(fd, WEFT_IOC_CHUNKS, &args), EINVAL);
  close(fd);
}

// A queue fd is released before the control fd: the next agent waits for the rest to go.
void WaitsForTheDying() {
  int control = OpenDevice();
  weft_ioc_attach args = AttachArgs(kCluster);
  CHECK_EQ(Ioctl(control, WEFT_IOC_ATTACH, &args), 0);
  int queue = OpenDevice();
  CHECK_EQ(OpenQueue(queue, control, 0), 0);
  int go[2];
  CHECK_EQ(pipe(go), 0);
  pid_t child = fork();
  if (child == 0) {  // the last one to hold the control fd
    char byte;
    close(queue);
    close(go[1]);
    if (read(go[0], &byte, 1) == 0) usleep(200000);
    _exit(0);
  }
  close(go[0]);
  close(control);
  CHECK_EQ(AttachError([](weft_ioc_attach*) {}), EBUSY);  // nothing is released: it may be alive
  while (SysfsHas(kCluster) && Sysfs(std::string(kCluster) + "/agent") == "attached") {
    if (queue >= 0) close(queue);
    queue = -1;
    usleep(1000);
  }
  close(go[1]);
  CHECK_EQ(AttachError([](weft_ioc_attach*) {}), 0);
  waitpid(child, nullptr, 0);
  CHECK(!SysfsHas(kCluster));
}

void AttachAgainAndAgain() {
  for (int i = 0; i < 30; ++i) {
    Attachment a(kCluster, 4);
    if (!CHECK_EQ(a.error(), 0)) return;
    CHECK_EQ(a.Ready(), 0);
  }
  CHECK(!SysfsHas(kCluster));
}

}  // namespace

std::vector<Case> DeviceCases() {
  return {{"attach_limits", AttachLimits},
          {"geometry", Geometry},
          {"mappings", Mappings},
          {"one_agent", OneAgent},
          {"ready_needs_all_queues", ReadyNeedsAllQueues},
          {"bad_completions", BadCompletions},
          {"targets", Targets},
          {"chunks", Chunks},
          {"waits_for_the_dying", WaitsForTheDying},
          {"attach_again_and_again", AttachAgainAndAgain}};
}

}  // namespace weft::kmod_test
