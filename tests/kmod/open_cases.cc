// SPDX-License-Identifier: MIT
//
// The agent counts a write to a chunk of several copies that is not open as a violation, which Mounted looks
// for at the end of each case.
#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/kmod/mounted.h"

namespace weft::kmod_test {
namespace {

constexpr const char* kIdleParameter = "/sys/module/weft/parameters/chunk_idle_ms";

// Chunks are closed after so long, until the end of the scope.
class Idle {
 public:
  explicit Idle(int milliseconds) {
    std::ifstream(kIdleParameter) >> before_;
    Set(milliseconds);
  }
  ~Idle() { Set(before_); }

 private:
  static void Set(int milliseconds) {
    std::ofstream file(kIdleParameter);
    file << milliseconds << std::flush;
    CHECK(file.good());
  }
  int before_ = 0;
};

std::string OpenChunks() { return Sysfs("mounttest/open_chunks"); }

void OpensOnce() {
  Mounted m;
  CHECK(m.Reads(0, 4096, 0) || true);
  CHECK_EQ(m.world()->opened, 0u);  // reading needs nothing
  CHECK(m.Write(0, 4096, 1));
  CHECK_EQ(m.world()->opened, 1u);
  for (uint32_t i = 0; i < 10; ++i) CHECK(m.Write(i * 4096, 4096, i));
  CHECK_EQ(m.world()->opened, 1u);
  CHECK(m.Write(kChunkBytes - 4096, 8192, 2));  // and the next one
  CHECK_EQ(m.world()->opened, 2u);
  CHECK_EQ(OpenChunks(), "2");
  CHECK_EQ(m.world()->closed, 0u);
}

void WritesWaitForIt() {
  Mounted m;
  iovec piece{nullptr, 4096};
  Buffer data = Pattern(4096, 9);
  piece.iov_base = data.get();
  CHECK_EQ(pwritev2(m.fd(), &piece, 1, 0, RWF_NOWAIT), -1);
  CHECK_EQ(errno, EAGAIN);
  CHECK_EQ(m.world()->opened, 0u);

  m.world()->hold_meta = true;
  std::atomic<int> wrote = 0;
  std::vector<std::thread> writers;
  for (uint32_t i = 0; i < 8; ++i) {
    writers.emplace_back([&, i] { wrote += m.Write(i % kFileChunks * kChunkBytes + i * 4096, 4096, i); });
  }
  CHECK(Eventually([&] { return m.world()->held > 0; }));
  usleep(100000);
  CHECK_EQ(wrote, 0);
  CHECK_EQ(m.world()->targets[0].writes, 0u);
  m.KillAgent();  // the call is sent again to the next one
  m.world()->hold_meta = false;
  m.StartAgent();
  for (std::thread& writer : writers) writer.join();
  CHECK_EQ(wrote, 8);
  CHECK_EQ(m.world()->opened, kFileChunks);
}

void IdleChunksAreClosed() {
  Idle idle(200);
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  CHECK(m.Write(kChunkBytes, 4096, 2));
  usleep(600000);
  CHECK_EQ(m.world()->closed, 0u);  // neither is flushed
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK(Eventually([&] { return m.world()->closed == 2; }));
  CHECK(Eventually([] { return OpenChunks() == "0"; }));
  CHECK(m.Write(0, 4096, 3));
  CHECK_EQ(m.world()->opened, 3u);
  CHECK(m.Reads(kChunkBytes, 4096, 2));

  m.world()->hold_blocks = true;  // a write under way keeps it open
  std::thread writer([&] { CHECK(m.Write(4096, 4096, 4)); });
  CHECK(Eventually([&] { return m.world()->held == 2; }));
  usleep(600000);
  CHECK_EQ(m.world()->closed, 2u);
  m.world()->hold_blocks = false;
  writer.join();
}

// A write that comes while its chunk is being closed waits, and opens it again.
void WriteMeetsClose() {
  Idle idle(100);
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.world()->hold_meta = true;
  std::thread flusher([&] { CHECK_EQ(fdatasync(m.fd()), 0); });
  CHECK(Eventually([&] { return m.world()->held > 0; }));  // CLOSE, once it is flushed
  std::atomic<bool> wrote = false;
  std::thread writer([&] { wrote = m.Write(0, 4096, 2); });
  usleep(200000);
  CHECK(!wrote);
  m.world()->hold_meta = false;
  writer.join();
  flusher.join();
  CHECK(wrote);
  CHECK_EQ(m.world()->closed, 1u);
  CHECK_EQ(m.world()->opened, 2u);
}

// A write that failed may have reached some copies and not others: CLOSE would say that they are equal.
void FailedWriteKeepsItOpen() {
  World* world = nullptr;
  {
    Idle idle(200);
    Mounted m("soft,grace=1");
    world = m.world();
    CHECK(m.Write(0, 4096, 1));
    CHECK(m.Write(kChunkBytes, 4096, 2));
    CHECK_EQ(fsync(m.fd()), 0);
    for (int i : {0, 1}) world->targets[i].write_error = EHOSTDOWN;
    CHECK(!m.Write(0, 4096, 3));
    CHECK_EQ(errno, EIO);
    for (int i : {0, 1}) world->targets[i].write_error = 0;
    CHECK(Eventually([&] { return world->closed == 1; }));
    usleep(600000);
    CHECK_EQ(world->closed, 1u);
    CHECK_EQ(world->marked_stale, 0u);
  }
  CHECK_EQ(world->unmounts, 1u);
  CHECK_EQ(world->marked_stale, 1u);  // unmounting ends the session as one that left nothing to do
  CHECK(world->chunks[0].states[0] != world->chunks[0].states[1]);
}

// The time that a write waits for its chunk to be opened counts.
void SoftFailsWhileOpening() {
  Mounted m("soft,grace=2");
  m.KillAgent();
  auto start = std::chrono::steady_clock::now();
  CHECK(!m.Write(0, 4096, 1));
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  CHECK_EQ(errno, EIO);
  CHECK(took.count() < 3.5);
}

void OpensAndClosesUnderLoad() {
  Idle idle(1);
  Mounted m;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> bad = 0;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; !stop; ++i) {
        uint64_t offset = (t + i) % kFileChunks * kChunkBytes + t * 65536;
        if (!m.Write(offset, 4096, i) || !m.Reads(offset, 4096, i)) bad++;
        if (i % 4 == t % 4) bad += fsync(m.fd()) != 0;
        usleep(1000 * (i % 7));
      }
    });
  }
  CHECK(Eventually([&] { return m.world()->closed >= 20; }));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(bad, 0u);
  std::cout << "  " << m.world()->opened << " times opened, " << m.world()->closed << " times closed" << std::endl;
}

}  // namespace

std::vector<Case> OpenCases() {
  return {{"opens_once", OpensOnce},
          {"writes_wait_for_it", WritesWaitForIt},
          {"idle_chunks_are_closed", IdleChunksAreClosed},
          {"write_meets_close", WriteMeetsClose},
          {"failed_write_keeps_it_open", FailedWriteKeepsItOpen},
          {"soft_fails_while_opening", SoftFailsWhileOpening},
          {"opens_and_closes_under_load", OpensAndClosesUnderLoad}};
}

}  // namespace weft::kmod_test
