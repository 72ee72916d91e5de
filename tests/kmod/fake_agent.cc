// SPDX-License-Identifier: MIT
#include "tests/kmod/fake_agent.h"

#include <linux/io_uring.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <new>
#include <string_view>
#include <vector>

#include "tests/kmod/device.h"

namespace weft::kmod_test {
namespace {

constexpr std::string_view kFileName = "data";
constexpr uint32_t kQueues = 2;

weft_attr RootAttr() {
  weft_attr attr{};
  attr.ino = kRootIno;
  attr.mode = S_IFDIR | 0755;
  attr.nlink = 2;
  return attr;
}

weft_attr FileAttr() {
  weft_attr attr{};
  attr.ino = kFileIno;
  attr.size = kPoolBytes;
  attr.blocks = kPoolBytes / WEFT_BLOCK_BYTES;
  attr.mode = S_IFREG | 0644;
  attr.nlink = 1;
  return attr;
}

class Agent {
 public:
  Agent(World* world, const std::string& cluster) : world_(world), attachment_(cluster, kQueues) {}

  int Run();

 private:
  bool SendTargets();
  void Pin();
  void Serve(uint32_t queue, const weft_sqe& sqe);
  void Answer(uint32_t queue, const weft_sqe& sqe);
  void TryBadCompletions(uint32_t queue, const weft_sqe& sqe);
  int32_t Block(const weft_sqe& sqe);
  int32_t Meta(const weft_sqe& sqe);
  void CheckSequence(const weft_sqe& sqe, bool resend);
  weft_chunk Map(uint64_t index) const;
  int32_t MarkStale(const weft_mark_stale_req& request, char* reply);
  int32_t Lookup(const weft_meta_req* request, char* reply) const;
  int32_t GetChunks(const weft_get_chunks_req& request, char* reply) const;

  template <typename T>
  static int32_t Reply(char* reply, const T& value) {
    std::memcpy(reply, &value, sizeof(value));
    return sizeof(value);
  }

  World* const world_;
  Attachment attachment_;
  std::vector<std::pair<uint32_t, weft_sqe>> held_;
};

bool Agent::SendTargets() {
  weft_target_info infos[kTargets] = {};
  for (uint32_t i = 0; i < kTargets; ++i) {
    infos[i].id = i + 1;
    infos[i].state = world_->targets[i].up ? WEFT_TARGET_UP : WEFT_TARGET_DOWN;
    infos[i].weight = 100;
    std::strcpy(infos[i].name, i ? "t2" : "t1");
  }
  return attachment_.SetTargets(infos, kTargets) == 0;
}

// Registers the pool with an io_uring that another process keeps, as the kernel may keep verbs a while
// longer than the fds of a process that was killed.
void Agent::Pin() {
  io_uring_params params{};
  int ring = syscall(SYS_io_uring_setup, 1, &params);
  iovec pool{attachment_.pool(), attachment_.args().pool_bytes_granted};
  if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &pool, 1) != 0) {
    std::cerr << "agent: cannot register the pool: " << std::strerror(errno) << std::endl;
    return;
  }
  pid_t holder = fork();
  if (holder == 0) {
    dup2(ring, 3);
    close_range(4, ~0U, 0);
    pause();
    _exit(0);
  }
  world_->holder = holder;
  close(ring);
}

int Agent::Run() {
  if (attachment_.error() || !SendTargets() || attachment_.Ready()) {
    std::cerr << "agent: cannot attach: " << std::strerror(attachment_.error()) << std::endl;
    return 1;
  }
  if (world_->pin) Pin();
  world_->epoch = attachment_.args().epoch;
  while (!world_->quit) {
    if (world_->targets_changed.exchange(false)) SendTargets();
    weft_sqe sqe;
    for (uint32_t queue = 0; queue < kQueues; ++queue) {
      bool any = false;
      while (attachment_.Take(queue, &sqe)) {
        Serve(queue, sqe);
        any = true;
      }
      if (any) attachment_.Complete(queue);
    }
    std::vector<std::pair<uint32_t, weft_sqe>> again;
    again.swap(held_);
    world_->held = 0;
    for (auto& [queue, held] : again) Serve(queue, held);
    for (uint32_t queue = 0; queue < kQueues && !again.empty(); ++queue) attachment_.Complete(queue);
    attachment_.Wait(held_.empty() ? 100 : 5);
  }
  return 0;
}

void Agent::Serve(uint32_t queue, const weft_sqe& sqe) {
  bool meta = sqe.op == WEFT_OP_META;
  bool hold = meta ? world_->hold_meta.load() : world_->hold_blocks.load();
  if (meta && hold) {
    auto* request = reinterpret_cast<const weft_meta_req*>(attachment_.pool() + sqe.buf);
    hold = request->op != WEFT_META_MOUNT && request->op != WEFT_META_UNMOUNT;
  }
  if (hold) {
    held_.emplace_back(queue, sqe);
    world_->held = held_.size();
    return;
  }
  Answer(queue, sqe);
}

void Agent::TryBadCompletions(uint32_t queue, const weft_sqe& sqe) {
  attachment_.Complete(queue);
  std::vector<weft_cqe> bad;
  weft_cqe good{};
  good.tag = sqe.tag;
  good.epoch = sqe.epoch;
  good.result = sqe.op == WEFT_OP_META ? 0 : static_cast<int32_t>(sqe.length);
  auto add = [&](auto change) { change(bad.emplace_back(good)); };
  add([](weft_cqe& c) { c.tag ^= 1ull << 32; });  // another generation
  add([](weft_cqe& c) { c.tag |= 0xffffffff; });  // no such index
  add([](weft_cqe& c) { c.tag = ~0ull; });
  add([](weft_cqe& c) { c.epoch -= 1; });
  add([](weft_cqe& c) { c.epoch += 1; });
  add([](weft_cqe& c) { c.reserved[0] = 1; });
  add([](weft_cqe& c) { c.reserved[1] = 1ull << 63; });
  add([](weft_cqe& c) { c.result = -4096; });
  add([](weft_cqe& c) { c.result = INT32_MIN; });
  if (sqe.op == WEFT_OP_META) {
    add([](weft_cqe& c) { c.result = WEFT_META_REP_BYTES + 1; });
  } else {
    add([](weft_cqe& c) { c.result += 1; });
    add([](weft_cqe& c) { c.result = WEFT_IO_BYTES_MAX + 1; });
  }
  for (const weft_cqe& cqe : bad) {
    attachment_.Put(queue, cqe);
    world_->poison_tried++;
    if (attachment_.Complete(queue) != -EINVAL) world_->poison_accepted++;
  }
}

void Agent::Answer(uint32_t queue, const weft_sqe& sqe) {
  bool resend = sqe.flags & WEFT_SQE_RESEND;
  world_->requests++;
  if (resend) world_->resent++;
  if (sqe.epoch != attachment_.args().epoch || sqe.reserved0) world_->violations++;
  if (world_->poison) TryBadCompletions(queue, sqe);
  weft_cqe cqe{};
  cqe.tag = sqe.tag;
  cqe.epoch = sqe.epoch;
  if (sqe.op == WEFT_OP_META) {
    CheckSequence(sqe, resend);
    cqe.result = Meta(sqe);
  } else {
    cqe.result = Block(sqe);
  }
  attachment_.Put(queue, cqe);
}

int32_t Agent::Block(const weft_sqe& sqe) {
  if (!sqe.target || sqe.target > kTargets || sqe.offset + sqe.length > kPoolBytes ||
      sqe.buf + sqe.length > attachment_.args().pool_bytes_granted || sqe.length > WEFT_IO_BYTES_MAX) {
    world_->violations++;
    return -EIO;
  }
  Target& target = world_->targets[sqe.target - 1];
  if (sqe.op == WEFT_OP_FLUSH) {
    target.flushes++;
    return -target.flush_error;
  }
  const Chunk& chunk = world_->chunks[sqe.offset / kChunkBytes];
  if (sqe.chunk_version < chunk.version) return -ESTALE;
  if (sqe.op == WEFT_OP_READ) {
    target.reads++;
    if (target.read_error) return -target.read_error;
    std::memcpy(attachment_.pool() + sqe.buf, target.data + sqe.offset, sqe.length);
  } else if (sqe.op == WEFT_OP_WRITE) {
    target.writes++;
    if (sqe.flags & WEFT_SQE_FUA) target.fua_writes++;
    if (target.write_error) return -target.write_error;
    std::memcpy(target.data + sqe.offset, attachment_.pool() + sqe.buf, sqe.length);
  } else {
    world_->violations++;
    return -EIO;
  }
  return sqe.length;
}

void Agent::CheckSequence(const weft_sqe& sqe, bool resend) {
  if (sqe.meta_slot >= WEFT_META_SLOTS) {
    world_->violations++;
  } else if (sqe.meta_seq) {
    uint64_t last = world_->last_seq[sqe.meta_slot].exchange(sqe.meta_seq);
    if (sqe.meta_seq < last || (sqe.meta_seq == last && !resend)) world_->violations++;
  }
}

weft_chunk Agent::Map(uint64_t index) const {
  weft_chunk chunk{};
  chunk.index = index;
  chunk.version = world_->chunks[index].version;
  chunk.count = kTargets;
  for (uint32_t i = 0; i < kTargets; ++i) {
    chunk.copies[i].target = i + 1;
    chunk.copies[i].state = world_->chunks[index].states[i];
    chunk.copies[i].offset = index * kChunkBytes;
  }
  return chunk;
}

int32_t Agent::GetChunks(const weft_get_chunks_req& request, char* reply) const {
  weft_get_chunks_rep head{};
  for (uint64_t i = request.first; i < request.first + request.count && i < kChunks; ++i) {
    Reply(reply + sizeof(head) + head.count * sizeof(weft_chunk), Map(i));
    head.count++;
  }
  return Reply(reply, head) + head.count * sizeof(weft_chunk);
}

int32_t Agent::MarkStale(const weft_mark_stale_req& request, char* reply) {
  if (request.index >= kChunks || !request.copy_mask || request.copy_mask >> kTargets) {
    world_->violations++;
    return -EINVAL;
  }
  Chunk& chunk = world_->chunks[request.index];
  bool left = false;
  for (uint32_t i = 0; i < kTargets; ++i) {
    left |= chunk.states[i] == WEFT_COPY_IN_SYNC && !(request.copy_mask >> i & 1);
  }
  if (!left) return -EBUSY;
  for (uint32_t i = 0; i < kTargets; ++i) {
    if (request.copy_mask >> i & 1) chunk.states[i] = WEFT_COPY_STALE;
  }
  chunk.version++;
  world_->marked_stale++;
  return Reply(reply, Map(request.index));
}

int32_t Agent::Lookup(const weft_meta_req* request, char* reply) const {
  auto* args = reinterpret_cast<const weft_lookup_req*>(request + 1);
  std::string_view name(reinterpret_cast<const char*>(args + 1), args->name_bytes);
  return name == kFileName ? Reply(reply, FileAttr()) : -ENOENT;
}

int32_t Agent::Meta(const weft_sqe& sqe) {
  auto* request = reinterpret_cast<const weft_meta_req*>(attachment_.pool() + sqe.buf);
  char* reply = attachment_.pool() + sqe.buf + WEFT_META_REQ_BYTES;
  const void* args = request + 1;
  world_->calls++;
  if (request->length != sqe.length || request->reserved) world_->violations++;
  switch (request->op) {
    case WEFT_META_MOUNT: {
      weft_mount_rep mount{};
      mount.session = kSession;
      mount.root_ino = kRootIno;
      mount.pool_blocks = kPoolBytes / WEFT_BLOCK_BYTES;
      mount.block_bytes = WEFT_BLOCK_BYTES;
      mount.chunk_blocks = kChunkBytes / WEFT_BLOCK_BYTES;
      mount.copies = kTargets;
      mount.root = RootAttr();
      return Reply(reply, mount);
    }
    case WEFT_META_UNMOUNT:
      world_->unmounts++;
      return 0;
    case WEFT_META_STATFS: {
      weft_statfs_rep stat{};
      stat.blocks = kPoolBytes / WEFT_BLOCK_BYTES;
      stat.files = 2;
      return Reply(reply, stat);
    }
    case WEFT_META_LOOKUP:
      return Lookup(request, reply);
    case WEFT_META_GETATTR:
    case WEFT_META_SETATTR:
      return Reply(reply, request->ino == kRootIno ? RootAttr() : FileAttr());
    case WEFT_META_GET_EXTENTS: {
      weft_get_extents_rep head{};
      weft_extent extent{};
      extent.blocks = kPoolBytes / WEFT_BLOCK_BYTES;
      head.count = static_cast<const weft_get_extents_req*>(args)->file_block < extent.blocks;
      head.eof = 1;
      int32_t bytes = Reply(reply, head);
      return head.count ? bytes + Reply(reply + bytes, extent) : bytes;
    }
    case WEFT_META_GET_CHUNKS:
      return GetChunks(*static_cast<const weft_get_chunks_req*>(args), reply);
    case WEFT_META_MARK_STALE:
      return MarkStale(*static_cast<const weft_mark_stale_req*>(args), reply);
    case WEFT_META_COMMIT:
    case WEFT_META_RELEASE:
    case WEFT_META_EVICT:
      return 0;
    case WEFT_META_GRANT:
      return -ENOSPC;
    default:
      return -EPERM;
  }
}

}  // namespace

World* NewWorld() {
  void* memory = mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : new (memory) World;
}

AgentProcess::AgentProcess(World* world, const std::string& cluster) : world_(world) {
  world->epoch = 0;
  world->quit = false;
  world->held = 0;
  pid_ = fork();
  if (pid_ == 0) {
    close_range(3, ~0U, 0);  // an agent that holds a file of its own mount open could never be unmounted
    _exit(Agent(world, cluster).Run());
  }
  while (pid_ > 0 && world->epoch == 0) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return;
    }
    usleep(1000);
  }
  ok_ = pid_ > 0;
}

AgentProcess::~AgentProcess() {
  if (pid_ <= 0) return;
  world_->quit = true;
  waitpid(pid_, nullptr, 0);
}

void AgentProcess::Kill() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace weft::kmod_test
