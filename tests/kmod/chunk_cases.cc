// SPDX-License-Identifier: MIT
#include <sys/uio.h>

#include <atomic>
#include <thread>

#include "tests/kmod/mounted.h"

namespace weft::kmod_test {
namespace {

void SetState(Chunk* chunk, uint32_t copy, uint32_t state) {
  chunk->states[copy] = state;
  chunk->version++;
}

// A third copy that is resyncing comes into chunk 0.
void AddResyncing(Mounted* m) {
  Chunk& chunk = m->world()->chunks[0];
  chunk.copies = 3;
  SetState(&chunk, 2, WEFT_COPY_RESYNCING);
  CHECK_EQ(m->Push(m->Map(0)), 0);
}

void ResyncingCopy() {
  Mounted m;
  CHECK(m.Write(0, 65536, 1));
  AddResyncing(&m);
  CHECK(m.Write(0, 65536, 2));
  for (uint32_t target = 0; target < kTargets; ++target) CHECK(m.Holds(target, 0, 65536, 2));
  for (int i = 0; i < 12; ++i) CHECK(m.Reads(0, 65536, 2));
  CHECK_EQ(m.world()->targets[2].reads, 0u);
  m.world()->targets[0].read_error = EIO;  // nor when the others fail
  m.world()->targets[1].read_error = EIO;
  CHECK(!m.Reads(0, 4096, 2));
  CHECK_EQ(errno, EIO);
  CHECK_EQ(m.world()->targets[2].reads, 0u);
  m.world()->targets[0].read_error = 0;
  m.world()->targets[1].read_error = 0;
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->targets[2].flushes, 1u);

  SetState(&m.world()->chunks[0], 2, WEFT_COPY_IN_SYNC);
  CHECK_EQ(m.Push(m.Map(0)), 0);
  for (int i = 0; i < 12; ++i) CHECK(m.Reads(0, 65536, 2));
  CHECK(m.world()->targets[2].reads > 0u);
}

void ResyncingCopyFails() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  AddResyncing(&m);
  m.world()->targets[2].write_error = EIO;
  CHECK(m.Write(0, 65536, 2));
  CHECK_EQ(m.world()->marked_stale, 1u);
  CHECK_EQ(m.world()->chunks[0].states[2], static_cast<uint32_t>(WEFT_COPY_STALE));
  CHECK_EQ(Sysfs("mounttest/stale_marks"), "1");
  uint64_t writes = m.world()->targets[2].writes;
  CHECK(m.Write(0, 65536, 3));
  CHECK_EQ(m.world()->targets[2].writes, writes);
  m.world()->targets[2].write_error = 0;

  // One that resyncs does not stand in for one that is in sync: the write waits for that.
  SetState(&m.world()->chunks[0], 1, WEFT_COPY_STALE);
  SetState(&m.world()->chunks[0], 2, WEFT_COPY_RESYNCING);
  CHECK_EQ(m.Push(m.Map(0)), 0);
  m.world()->targets[0].write_error = EHOSTDOWN;
  std::atomic<bool> wrote = false;
  std::thread writer([&] { wrote = m.Write(0, 65536, 4); });
  CHECK(Eventually([&] { return m.Holds(2, 0, 65536, 4); }));
  usleep(300000);
  CHECK(!wrote);
  CHECK_EQ(m.world()->marked_stale, 1u);
  m.world()->targets[0].write_error = 0;
  m.TellTargets();
  writer.join();
  CHECK(wrote);
  CHECK(m.Holds(0, 0, 65536, 4));
}

// A copy comes into the map while a write is under way: it is acknowledged when that has it, too.
void CopyComesDuringWrite() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.world()->hold_blocks = true;
  std::atomic<bool> wrote = false;
  std::thread writer([&] { wrote = m.Write(0, 4096, 2); });
  CHECK(Eventually([&] { return m.world()->held == 2; }));
  weft_chunk map = m.Map(0);
  map.count = 3;
  map.copies[2] = {3, WEFT_COPY_RESYNCING, 0};
  map.version++;
  CHECK_EQ(m.Push(map), 0);  // the targets do not know of it yet: nobody refuses the old version
  m.world()->chunks[0].copies = 3;
  m.world()->chunks[0].states[2] = WEFT_COPY_RESYNCING;
  m.world()->hold_blocks = false;
  writer.join();
  CHECK(wrote);
  CHECK(m.Holds(2, 0, 4096, 2));
  m.world()->chunks[0].version = map.version;
}

void ChunkUpdates() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.world()->chunks[0].version = 10;
  CHECK(m.Write(0, 4096, 2));  // learns of version 10

  weft_chunk map = m.Map(0);
  map.version = 9;
  map.copies[1].state = WEFT_COPY_STALE;
  CHECK_EQ(m.Push(map), 0);  // older: not taken
  CHECK(m.Write(0, 4096, 3));
  CHECK(m.Holds(1, 0, 4096, 3));
  map.version = 11;
  CHECK_EQ(m.Push(map), 0);  // newer
  CHECK(m.Write(0, 4096, 4));
  CHECK(m.Holds(0, 0, 4096, 4));
  CHECK(m.Holds(1, 0, 4096, 3));
  map.index = kChunks - 1;
  CHECK_EQ(m.Push(map), 0);  // not cached

  auto refused = [&](auto change) {
    weft_chunk bad = m.Map(1);
    bad.version = 100;
    bad.copies[0].state = WEFT_COPY_STALE;
    change(&bad);
    return m.Push(bad);
  };
  CHECK_EQ(refused([](weft_chunk* c) { c->count = WEFT_CHUNK_COPIES_MAX + 1; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) { c->index = kChunks; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) { c->copies[1].target = 0; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) { c->copies[1].target = 1; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) { c->copies[1].state = 0; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) { c->copies[1].state = 4; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) { c->copies[1].offset = 512; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) { c->copies[1].offset = 1ull << 63; }), EINVAL);
  CHECK_EQ(refused([](weft_chunk* c) {
             c->count = WEFT_CHUNK_COPIES_MAX;  // five in sync are too many to choose from
             for (uint32_t i = 0; i < c->count; ++i) c->copies[i] = {i + 1, WEFT_COPY_IN_SYNC, 0};
           }),
           EINVAL);
  CHECK(m.Write(kChunkBytes, 4096, 5));  // nothing of that was taken
  CHECK(m.Holds(0, kChunkBytes, 4096, 5));
  CHECK(m.Holds(1, kChunkBytes, 4096, 5));
}

void BadChecksum() {
  Mounted m;
  CHECK(m.Write(0, 65536, 1));
  m.world()->targets[0].read_error = EBADMSG;
  for (int i = 0; i < 8; ++i) CHECK(m.Reads(0, 65536, 1));
  CHECK(m.world()->targets[0].reads > 0);
  m.world()->targets[1].read_error = EBADMSG;
  CHECK(!m.Reads(0, 4096, 1));
  CHECK_EQ(errno, EIO);
  m.world()->targets[0].read_error = 0;
  m.world()->targets[1].read_error = 0;
  CHECK_EQ(m.world()->marked_stale, 0u);
}

// Each copy has what the other one lacks.
void BadChecksumsApart() {
  Mounted m;
  CHECK(m.Write(0, 1 << 18, 1));
  m.world()->targets[0].bad_block = 3;
  m.world()->targets[1].bad_block = 60;
  for (int i = 0; i < 4; ++i) CHECK(m.Reads(0, 1 << 18, 1));
  m.world()->targets[1].bad_block = 3;
  CHECK(!m.Reads(0, 1 << 18, 1));
  CHECK_EQ(errno, EIO);
  CHECK(m.Reads(0, 3 * 4096, 1));  // what is before it
  m.world()->targets[0].bad_block = 0;
  for (int i = 0; i < 4; ++i) CHECK(m.Reads(0, 1 << 18, 1));
  m.world()->targets[1].bad_block = 0;
}

void LostChunk() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  Chunk& chunk = m.world()->chunks[0];
  chunk.states[0] = WEFT_COPY_STALE;
  SetState(&chunk, 1, WEFT_COPY_STALE);
  for (int i = 0; i < 2; ++i) {
    CHECK(!m.Write(0, 4096, 2));
    CHECK_EQ(errno, EIO);
    CHECK(!m.Reads(0, 4096, 1));
    CHECK_EQ(errno, EIO);
  }
  CHECK(m.Write(kChunkBytes, 4096, 3));    // the others are none the worse
  SetState(&chunk, 0, WEFT_COPY_IN_SYNC);  // it is found after all: the map is asked for each time
  CHECK(m.Reads(0, 4096, 1));
  CHECK(m.Write(0, 4096, 4));
  CHECK(m.Holds(0, 0, 4096, 4));
  weft_chunk gone = m.Map(0);  // with all its targets
  gone.version++;
  gone.count = 0;
  std::memset(gone.copies, 0, sizeof(gone.copies));
  CHECK_EQ(m.Push(gone), 0);
  CHECK_EQ(fsync(m.fd()), -1);  // what was acknowledged and not flushed went with them
  CHECK_EQ(errno, EIO);
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK(!m.Reads(0, 4096, 4));
  CHECK_EQ(errno, EIO);
  CHECK(!m.Write(0, 4096, 5));
  chunk.version += 2;
  CHECK_EQ(m.Push(m.Map(0)), 0);
  CHECK(m.Reads(0, 4096, 4));
}

// Power was lost and came back before anybody noticed.
void LosePower(Mounted* m, uint32_t target) { m->world()->targets[target].incarnation++; }

void Reconnect(Mounted* m, uint32_t target) {
  Target& t = m->world()->targets[target];
  t.told_incarnation = t.incarnation.load();
  m->TellTargets();
}

void LostWritesAreMarkedAtOnce() {
  Mounted m;
  CHECK(m.Write(0, 65536, 1));
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK(m.Write(kChunkBytes, 65536, 2));  // the only one that is not flushed
  m.world()->hold_meta = true;            // even while the server does not answer
  LosePower(&m, 1);
  Reconnect(&m, 1);
  uint64_t reads = m.world()->targets[1].reads;
  for (int i = 0; i < 8; ++i) CHECK(m.Reads(kChunkBytes, 65536, 2));
  CHECK_EQ(m.world()->targets[1].reads, reads);
  for (int i = 0; i < 8; ++i) CHECK(m.Reads(0, 65536, 1));
  CHECK(m.world()->targets[1].reads > reads);  // what was flushed is still there
  m.world()->hold_meta = false;
  CHECK(Eventually([&] { return m.world()->marked_stale == 1; }));
  CHECK_EQ(m.world()->chunks[1].states[1], static_cast<uint32_t>(WEFT_COPY_STALE));
  CHECK_EQ(m.world()->chunks[0].states[1], static_cast<uint32_t>(WEFT_COPY_IN_SYNC));
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->marked_stale, 1u);
}

// The kernel knows only the old incarnation when it flushes.
void FlushMeetsAnotherIncarnation() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  LosePower(&m, 0);
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->marked_stale, 1u);
  CHECK_EQ(m.world()->chunks[0].states[0], static_cast<uint32_t>(WEFT_COPY_STALE));
  CHECK(m.Reads(0, 4096, 1));
  Reconnect(&m, 0);
  CHECK(m.Write(kChunkBytes, 4096, 2));
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->marked_stale, 1u);
}

void LastCopyLosesWrites() {
  Mounted m;
  m.world()->targets[1].write_error = EIO;
  CHECK(m.Write(0, 4096, 1));
  m.world()->targets[1].write_error = 0;
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK(m.Write(0, 4096, 2));
  LosePower(&m, 0);
  Reconnect(&m, 0);
  CHECK(m.Reads(0, 4096, 2));  // there is no other one to read from
  CHECK_EQ(fsync(m.fd()), -1);
  CHECK_EQ(errno, EIO);
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->marked_stale, 1u);

  CHECK(m.Write(kChunkBytes, 4096, 3));  // both at once: told, and they are made equal
  LosePower(&m, 0);
  LosePower(&m, 1);
  Reconnect(&m, 0);
  Reconnect(&m, 1);
  CHECK_EQ(fsync(m.fd()), -1);
  CHECK_EQ(errno, EIO);
  CHECK_EQ(m.world()->marked_stale, 2u);
  CHECK_EQ(fsync(m.fd()), 0);
}

// Its file was deleted by now: there is nobody left to miss it.
void FlushOfDeletedChunk() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  CHECK(m.Write(kChunkBytes, 4096, 2));
  m.world()->chunks[0].deleted = true;
  m.world()->targets[1].flush_error = EIO;
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->marked_stale, 1u);  // that of the other one
  m.world()->targets[1].flush_error = 0;
  CHECK_EQ(fsync(m.fd()), 0);
}

void FlushWithoutSession() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.world()->session_ended = true;
  for (int i = 0; i < 2; ++i) {
    CHECK_EQ(fsync(m.fd()), -1);
    CHECK_EQ(errno, EIO);
  }
  CHECK_EQ(m.world()->marked_stale, 0u);
}

// A device tells of an error once. That the next flush succeeds does not bring the data back.
void FlushErrorIsToldOnce() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.world()->targets[0].flush_error = EIO;
  m.world()->targets[1].flush_error = EHOSTDOWN;
  std::atomic<bool> synced = false;
  std::thread flusher([&] { synced = fsync(m.fd()) == 0; });
  CHECK(Eventually([&] { return m.world()->targets[0].flushes == 1 && m.world()->targets[1].flushes == 1; }));
  m.world()->targets[0].flush_error = 0;
  CHECK(Eventually([&] { return m.world()->targets[0].flushes > 1; }));
  usleep(100000);
  CHECK(!synced);
  m.world()->targets[1].flush_error = 0;
  m.TellTargets();
  flusher.join();
  CHECK(synced);
  CHECK_EQ(m.world()->chunks[0].states[0], static_cast<uint32_t>(WEFT_COPY_STALE));
  CHECK_EQ(m.world()->chunks[0].states[1], static_cast<uint32_t>(WEFT_COPY_IN_SYNC));
}

// A write that the agent sends again may be executed in a later incarnation than it was sent for.
void WriteMeetsAnotherIncarnation() {
  Mounted m;
  m.world()->targets[1].write_error = EIO;
  CHECK(m.Write(0, 4096, 1));  // leaves one copy
  CHECK_EQ(fsync(m.fd()), 0);
  m.world()->targets[1].write_error = 0;
  m.world()->hold_blocks = true;
  std::thread writer([&] { CHECK(m.Write(0, 4096, 2)); });
  CHECK(Eventually([&] { return m.world()->held == 1; }));
  LosePower(&m, 0);
  Reconnect(&m, 0);
  m.world()->hold_blocks = false;
  writer.join();
  CHECK_EQ(fsync(m.fd()), 0);

  m.world()->hold_blocks = true;
  uint64_t writes = m.world()->targets[0].writes;
  std::thread durable([&] {
    Buffer data = Pattern(4096, 3);
    iovec piece{data.get(), 4096};
    CHECK_EQ(pwritev2(m.fd(), &piece, 1, 0, RWF_DSYNC), 4096);
  });
  CHECK(Eventually([&] { return m.world()->held == 1; }));
  LosePower(&m, 0);
  Reconnect(&m, 0);
  m.world()->hold_blocks = false;
  durable.join();
  if (m.world()->targets[0].fua_writes) CHECK_EQ(m.world()->targets[0].writes, writes + 1);  // is so already
  CHECK(m.Holds(0, 0, 4096, 3));
}

// What was read while the target was started anew may be what it had before: it is read again.
void ReadMeetsAnotherIncarnation() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK(m.Write(0, 4096, 2));
  m.world()->targets[0].read_error = EIO;  // so it goes to the other one in the end
  CHECK(m.Reads(0, 4096, 2));
  m.world()->targets[0].read_error = 0;
  m.world()->hold_blocks = true;
  std::atomic<int> good = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) readers.emplace_back([&] { good += m.Reads(0, 4096, 2); });
  CHECK(Eventually([&] { return m.world()->held == 4; }));  // on both, as the balancer takes turns
  std::memcpy(m.world()->targets[1].data, Pattern(4096, 1).get(), 4096);
  LosePower(&m, 1);
  Reconnect(&m, 1);
  m.world()->hold_blocks = false;
  for (std::thread& reader : readers) reader.join();
  CHECK_EQ(good, 4);
  CHECK(Eventually([&] { return m.world()->marked_stale == 1; }));
}

// An agent that has just started knows no incarnation: that is no news.
void AgentRestartIsNoLoss() {
  Mounted m;
  CHECK(m.Write(0, 4096, 1));
  m.KillAgent();
  for (Target& target : m.world()->targets) target.told_incarnation = 0;
  m.StartAgent();
  CHECK(m.Write(4096, 4096, 2));
  CHECK_EQ(fsync(m.fd()), 0);
  for (Target& target : m.world()->targets) target.told_incarnation = 100;
  m.TellTargets();
  CHECK_EQ(m.world()->marked_stale, 0u);
}

// Written before the agent had told of any incarnation: it was the first one.
void FirstIncarnation() {
  Mounted m("hard", [](World* world) {
    for (Target& target : world->targets) target.told_incarnation = 0;
  });
  CHECK(m.Write(0, 4096, 1));
  for (uint32_t target = 0; target < kTargets; ++target) Reconnect(&m, target);
  CHECK(m.Write(0, 4096, 2));
  CHECK_EQ(fsync(m.fd()), 0);
  CHECK_EQ(m.world()->marked_stale, 0u);
  CHECK(m.Write(0, 4096, 3));
  LosePower(&m, 1);
  Reconnect(&m, 1);
  CHECK(Eventually([&] { return m.world()->marked_stale == 1; }));
}

}  // namespace

std::vector<Case> ChunkCases() {
  return {{"resyncing_copy", ResyncingCopy},
          {"resyncing_copy_fails", ResyncingCopyFails},
          {"copy_comes_during_write", CopyComesDuringWrite},
          {"chunk_updates", ChunkUpdates},
          {"bad_checksum", BadChecksum},
          {"bad_checksums_apart", BadChecksumsApart},
          {"lost_chunk", LostChunk},
          {"lost_writes_are_marked_at_once", LostWritesAreMarkedAtOnce},
          {"flush_meets_another_incarnation", FlushMeetsAnotherIncarnation},
          {"last_copy_loses_writes", LastCopyLosesWrites},
          {"flush_of_deleted_chunk", FlushOfDeletedChunk},
          {"flush_without_session", FlushWithoutSession},
          {"flush_error_is_told_once", FlushErrorIsToldOnce},
          {"write_meets_another_incarnation", WriteMeetsAnotherIncarnation},
          {"read_meets_another_incarnation", ReadMeetsAnotherIncarnation},
          {"agent_restart_is_no_loss", AgentRestartIsNoLoss},
          {"first_incarnation", FirstIncarnation}};
}

}  // namespace weft::kmod_test
