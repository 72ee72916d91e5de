// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

#include "tests/kmod/cases.h"
#include "tests/kmod/check.h"
#include "tests/kmod/mounted.h"

namespace weft::kmod_test {
namespace {

void ReadAndWrite() {
  Mounted m;
  for (size_t bytes : {4096u, 8192u, 65536u, 69632u, 1u << 20, 3u << 20}) {
    uint64_t offset = kChunkBytes - (bytes > kAlign ? kAlign : 0);  // across a border of chunks
    CHECK(m.Write(offset, bytes, bytes));
    CHECK(m.Reads(offset, bytes, bytes));
    CHECK(m.Holds(0, offset, bytes, bytes));
    CHECK(m.Holds(1, offset, bytes, bytes));
  }
  CHECK(m.world()->targets[0].reads > 0);
  CHECK(m.world()->targets[1].reads > 0);
  CHECK_EQ(Sysfs("mounttest/session"), std::to_string(kSession));
}

void Flush() {
  Mounted m;
  auto& targets = m.world()->targets;
  CHECK(m.Write(0, 4096, 1));
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(targets[0].flushes, 1u);
  CHECK_EQ(targets[1].flushes, 1u);
  CHECK_EQ(fsync(m.fd()), 0);  // nothing new: nothing to flush
  CHECK_EQ(targets[0].flushes, 1u);
  int sync_fd = open(Mounted::Path().c_str(), O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
  Buffer data = Pattern(4096, 2);
  CHECK_EQ(pwrite(sync_fd, data.get(), 4096, 0), 4096);
  close(sync_fd);
  CHECK_EQ(targets[0].fua_writes, 1u);
  CHECK_EQ(targets[1].fua_writes, 1u);
  CHECK_EQ(targets[0].flushes, 1u);

  CHECK(m.Write(4096, 4096, 3));  // one copy fails the flush: the other one is good enough
  targets[1].flush_error = EHOSTDOWN;
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->marked_stale, 1u);
  targets[1].flush_error = 0;
  CHECK(m.Write(8192, 4096, 4));  // the last one fails it: it says so
  targets[0].flush_error = EIO;
  CHECK_EQ(fsync(m.fd()), -1);
  CHECK_EQ(errno, EIO);
  targets[0].flush_error = 0;
  CHECK_EQ(fsync(m.fd()), 0);
}

void BadCompletionsOfRealRequests() {
  Mounted m;
  m.world()->poison = true;
  CHECK(m.Write(0, 1 << 20, 1));
  CHECK(m.Reads(0, 1 << 20, 1));
  CHECK(m.Write(4096, 4096, 2));
  CHECK(m.Reads(4096, 4096, 2));
  CHECK_EQ(fsync(m.fd()), 0);
  struct stat st;
  CHECK_EQ(stat((std::string(kDirectory) + "/nosuch").c_str(), &st), -1);
  CHECK_EQ(errno, ENOENT);
  m.world()->poison = false;
  CHECK(m.world()->poison_tried > 20u);
  CHECK_EQ(Sysfs("mounttest/bad_completions"), std::to_string(m.world()->poison_tried));
}

void AgentKilled() {
  Mounted m;
  CHECK(m.Write(0, 1 << 20, 1));
  for (uint32_t round = 0; round < 3; ++round) {
    m.world()->hold_blocks = true;
    bool wrote = false, read = false;
    std::thread writer([&] { wrote = m.Write(1 << 20, 1 << 20, round); });
    std::thread reader([&] { read = m.Reads(0, 1 << 20, 1); });
    CHECK(Eventually([&] { return m.world()->held == 3; }));  // two copies and a read
    CHECK_EQ(Sysfs("mounttest/inflight"), "3");
    m.KillAgent();
    CHECK_EQ(Sysfs("mounttest/agent"), "detached");
    CHECK_EQ(Sysfs("mounttest/parked"), "3");
    bool read_later = false;
    std::thread late_reader([&] { read_later = m.Reads(4096, 4096, 99) || true; });
    CHECK(Eventually([] { return Sysfs("mounttest/parked") == "4"; }));
    m.world()->hold_blocks = false;
    uint64_t resent = m.world()->resent;
    m.StartAgent();
    writer.join();
    reader.join();
    late_reader.join();
    CHECK(wrote && read && read_later);
    CHECK_EQ(m.world()->resent, resent + 3);
    CHECK(m.Reads(1 << 20, 1 << 20, round));
    CHECK_EQ(Sysfs("mounttest/parked"), "0");
  }
}

// A new agent must wait while the old registration can still move data in the pool.
void OldRegistration() {
  Mounted m;
  CHECK(m.Write(0, 65536, 1));
  m.StopAgent();
  m.world()->pin = true;
  m.StartAgent();
  m.world()->pin = false;
  pid_t holder = m.world()->holder;
  if (!CHECK(holder > 0)) return;
  m.world()->hold_blocks = true;
  bool read = false;
  std::thread reader([&] { read = m.Reads(0, 65536, 1); });
  CHECK(Eventually([&] { return m.world()->held == 1; }));
  m.KillAgent();
  m.world()->hold_blocks = false;
  std::atomic<bool> attached = false;
  std::thread starter([&] {
    m.StartAgent();
    attached = true;
  });
  usleep(500000);
  CHECK(!attached);
  kill(holder, SIGKILL);
  starter.join();
  reader.join();
  CHECK(read);
}

void ReadFailover() {
  Mounted m;
  CHECK(m.Write(0, 1 << 20, 1));
  m.world()->targets[0].read_error = EIO;
  for (int i = 0; i < 8; ++i) CHECK(m.Reads(0, 65536, 1));
  m.world()->targets[1].read_error = EIO;
  CHECK(!m.Reads(0, 4096, 1));
  CHECK_EQ(errno, EIO);
  m.world()->targets[0].read_error = EHOSTDOWN;  // may come back: waits
  bool read = false;
  std::thread reader([&] { read = m.Reads(0, 4096, 1); });
  usleep(300000);
  m.world()->targets[0].read_error = 0;
  m.world()->targets_changed = true;
  reader.join();
  CHECK(read);
  m.world()->targets[1].read_error = 0;
  CHECK_EQ(m.world()->marked_stale, 0u);
}

void WriteFailover() {
  Mounted m;
  m.world()->targets[1].write_error = EHOSTDOWN;
  CHECK(m.Write(0, 65536, 1));
  CHECK_EQ(m.world()->marked_stale, 1u);
  CHECK_EQ(m.world()->chunks[0].states[1], static_cast<uint32_t>(WEFT_COPY_STALE));
  uint64_t writes = m.world()->targets[1].writes, reads = m.world()->targets[1].reads;
  m.world()->targets[1].write_error = 0;
  CHECK(m.Write(65536, 65536, 2));
  for (int i = 0; i < 4; ++i) CHECK(m.Reads(0, 65536, 1));
  CHECK_EQ(m.world()->targets[1].writes, writes);  // a stale copy is left alone
  CHECK_EQ(m.world()->targets[1].reads, reads);

  m.world()->targets[0].write_error = ENOSPC;  // the last copy: hard waits
  bool wrote = false;
  std::thread writer([&] { wrote = m.Write(0, 65536, 3); });
  usleep(300000);
  CHECK(!wrote);
  CHECK_EQ(Sysfs("mounttest/inflight"), "0");
  m.world()->targets[0].write_error = 0;
  m.world()->targets_changed = true;
  writer.join();
  CHECK(wrote);
  CHECK(m.Reads(0, 65536, 3));
  CHECK_EQ(m.world()->marked_stale, 1u);
}

// The server has marked a copy stale without us: targets refuse the old version, we ask for the map.
void MapIsOld() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.world()->chunks[0].states[0] = WEFT_COPY_STALE;
  m.world()->chunks[0].version++;
  CHECK(m.Write(0, 4096, 2));
  CHECK(m.Holds(1, 0, 4096, 2));
  CHECK(m.Holds(0, 0, 4096, 1));
  CHECK(m.Reads(0, 4096, 2));
}

void SoftFailsAfterGrace() {
  Mounted m("soft,grace=1");
  CHECK(m.Write(0, 4096, 1));
  m.world()->targets[0].write_error = EHOSTDOWN;
  m.world()->targets[1].write_error = EHOSTDOWN;
  CHECK(!m.Write(0, 4096, 2));
  CHECK_EQ(errno, EIO);
  m.world()->targets[0].write_error = 0;
  m.world()->targets[1].write_error = 0;
  m.world()->hold_blocks = true;
  std::thread held([&] { CHECK(!m.Write(4096, 4096, 2)); });
  CHECK(Eventually([&] { return m.world()->held == 2; }));
  m.KillAgent();
  held.join();
  CHECK(!m.Reads(0, 4096, 1));
  CHECK_EQ(errno, EIO);
  m.world()->hold_blocks = false;
  m.StartAgent();
  CHECK_EQ(Sysfs("mounttest/inflight"), "0");
  CHECK(m.Write(0, 4096, 5));
  CHECK(m.Reads(0, 4096, 5));
}

// One that has waited for long does not make another one wait as long.
void WaitsOfTheirOwn() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.world()->targets[0].write_error = EHOSTDOWN;
  m.world()->targets[1].write_error = EHOSTDOWN;
  uint64_t before = m.world()->targets[0].writes;
  std::thread writer([&] { CHECK(m.Write(0, 4096, 2)); });
  // 50, 100, ... 1600 ms have passed, the next time is in two seconds
  CHECK(Eventually([&] { return m.world()->targets[0].writes == before + 7; }));
  m.world()->targets[0].read_error = EHOSTDOWN;
  m.world()->targets[1].read_error = EHOSTDOWN;
  std::chrono::duration<double> took{};
  std::thread reader([&] {
    auto start = std::chrono::steady_clock::now();
    CHECK(m.Reads(0, 4096, 1));
    took = std::chrono::steady_clock::now() - start;
  });
  CHECK(Eventually([&] { return m.world()->targets[0].reads > 0 && m.world()->targets[1].reads > 0; }));
  for (int i : {0, 1}) m.world()->targets[i].read_error = 0;
  reader.join();
  CHECK(took.count() < 1);
  for (int i : {0, 1}) m.world()->targets[i].write_error = 0;
  writer.join();
}

// umount -f with nobody to serve: what waits fails, and nothing is left behind.
void ForcedUnmount() {
  Mounted m;
  m.world()->hold_blocks = true;
  bool failed = false;
  std::thread writer([&] { failed = !m.Write(0, 4096, 1); });
  CHECK(Eventually([&] { return m.world()->held == 2; }));
  m.KillAgent();
  CHECK_EQ(umount2(kDirectory, MNT_FORCE), -1);  // the file is open, but everything ends
  CHECK_EQ(errno, EBUSY);
  writer.join();
  CHECK(failed);
  m.ForceUnmount();
  CHECK(!SysfsHas(kCluster));
  m.world()->hold_blocks = false;
}

// A killed caller is gone at once; its slot comes back with the answer.
void KilledCalls() {
  Mounted m;
  m.world()->hold_meta = true;
  std::vector<pid_t> children;
  for (int i = 0; i < 40; ++i) {  // more than there are slots: the last ones wait for one
    pid_t child = fork();
    if (child == 0) {
      struct stat st;
      _exit(stat((std::string(kDirectory) + "/name" + std::to_string(i)).c_str(), &st) ? errno : 0);
    }
    children.push_back(child);
  }
  CHECK(Eventually([&] { return m.world()->held >= 20; }));
  for (pid_t child : children) {
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
  }
  m.world()->hold_meta = false;
  CHECK(Eventually([] { return Sysfs("mounttest/inflight") == "0"; }));
  struct stat st;
  for (int i = 0; i < 100; ++i) {
    CHECK_EQ(stat((std::string(kDirectory) + "/after" + std::to_string(i)).c_str(), &st), -1);
    CHECK_EQ(errno, ENOENT);
  }
  m.world()->hold_meta = true;  // killed while the agent is gone as well
  pid_t child = fork();
  if (child == 0) _exit(stat((std::string(kDirectory) + "/late").c_str(), &st) ? errno : 0);
  CHECK(Eventually([&] { return m.world()->held == 1; }));
  m.KillAgent();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  m.world()->hold_meta = false;
  m.StartAgent();
  CHECK_EQ(Sysfs("mounttest/inflight"), "0");
}

// More at once than there are slots and tags, while agents come and go.
void Stress() {
  Mounted m;
  constexpr int kThreads = 16;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> bad = 0, done = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      uint64_t base = t * (kFileBytes / kThreads);
      size_t bytes = 0;
      for (uint32_t i = 0; !stop || !bytes; ++i) {
        bytes = kAlign * (1 + random() % (i % 4 ? 8 : 256));
        uint64_t offset = base + random() % ((kFileBytes / kThreads - bytes) / kAlign + 1) * kAlign;
        if (!m.Write(offset, bytes, i) || !m.Reads(offset, bytes, i)) bad++;
        done++;
      }
    });
  }
  for (int i = 0; i < 5; ++i) {
    usleep(400000);
    m.KillAgent();
    usleep(20000);
    m.StartAgent();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(bad, 0u);
  CHECK(done > 50);
  CHECK(!std::memcmp(m.world()->targets[0].data, m.world()->targets[1].data, kFileBytes));
  std::cout << "  " << done << " rounds, " << m.world()->resent << " requests sent again" << std::endl;
}

}  // namespace

std::vector<Case> MountCases() {
  return {{"read_and_write", ReadAndWrite},
          {"flush", Flush},
          {"bad_completions_of_real_requests", BadCompletionsOfRealRequests},
          {"agent_killed", AgentKilled},
          {"old_registration", OldRegistration},
          {"read_failover", ReadFailover},
          {"write_failover", WriteFailover},
          {"map_is_old", MapIsOld},
          {"soft_fails_after_grace", SoftFailsAfterGrace},
          {"waits_of_their_own", WaitsOfTheirOwn},
          {"forced_unmount", ForcedUnmount},
          {"killed_calls", KilledCalls},
          {"stress", Stress}};
}

}  // namespace weft::kmod_test
