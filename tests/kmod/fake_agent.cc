// SPDX-License-Identifier: MIT
#include "tests/kmod/fake_agent.h"

#include <linux/io_uring.h>
#include <signal.h>
#include <fcntl.h>
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

constexpr std::string_view kNames[kInos] = {"", "", "data", "two", "one"};
constexpr uint32_t kQueues = 2;

weft_attr AttrOf(const World& world, uint64_t ino) {
  weft_attr attr{};
  attr.ino = ino;
  attr.mode = ino == kRootIno ? S_IFDIR | 0755 : S_IFREG | 0644;
  attr.nlink = ino == kRootIno ? 2 : 1;
  if (ino == kFileIno) {
    attr.size = kFileBytes;
    attr.blocks = kFileBytes / WEFT_BLOCK_BYTES;
  }
  attr.copies = world.copies[ino];
  return attr;
}

class Agent {
 public:
  Agent(World* world, const std::string& cluster) : world_(world), attachment_(cluster, kQueues) {}

  int Run();

 private:
  bool SendTargets();
  void LookAtWorld();
  void Pin();
  void Serve(uint32_t queue, const weft_sqe& sqe);
  void Answer(uint32_t queue, const weft_sqe& sqe);
  void TryBadCompletions(uint32_t queue, const weft_sqe& sqe);
  int32_t Block(const weft_sqe& sqe);
  int32_t Meta(const weft_sqe& sqe);
  void CheckSequence(const weft_sqe& sqe, bool resend);
  weft_chunk Map(uint64_t index) const;
  int32_t MarkStale(const weft_mark_stale_req& request, char* reply);
  int32_t OpenOrClose(const weft_chunks_req& request, bool open);
  int Call();
  int32_t SetAttr(const weft_meta_req* request, char* reply);
  int32_t Commit(const weft_commit_req& request);
  int32_t Grant(const weft_grant_req& request, char* reply);
  int32_t Release(const weft_ranges& request);
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
    infos[i].flags = world_->targets[i].flags;
    infos[i].incarnation = world_->targets[i].told_incarnation;
    std::strcpy(infos[i].name, ("t" + std::to_string(i + 1)).c_str());
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

void Agent::LookAtWorld() {
  if (world_->targets_changed.exchange(false)) SendTargets();
  if (world_->push) {
    world_->push_error = attachment_.SetChunks(&world_->pushed, 1);
    world_->push = false;
  }
  if (world_->call) {
    world_->call_error = Call();
    world_->call = false;
  }
}

int Agent::Call() {
  if (world_->call_number == WEFT_IOC_LEASE) return Ioctl(attachment_.control(), WEFT_IOC_LEASE, &world_->lease);
  if (world_->call_number == WEFT_IOC_SETTLE) return Ioctl(attachment_.control(), WEFT_IOC_SETTLE, nullptr);
  weft_ioc_device device = world_->device;
  device.fd = world_->device_path[0] ? open(world_->device_path, O_RDWR | O_CLOEXEC) : -1;
  int error = Ioctl(attachment_.control(), WEFT_IOC_DEVICE, &device);
  if (device.fd >= 0) close(device.fd);
  return error;
}

int Agent::Run() {
  if (attachment_.error() || !SendTargets() || attachment_.Ready()) {
    std::cerr << "agent: cannot attach: " << std::strerror(attachment_.error()) << std::endl;
    return 1;
  }
  if (world_->pin) Pin();
  world_->epoch = attachment_.args().epoch;
  while (!world_->quit) {
    LookAtWorld();
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
    if (world_->session_ended) return -ESTALE;
    if (sqe.incarnation && sqe.incarnation != target.incarnation) return -ESTALE;
    return -target.flush_error;
  }
  if (sqe.incarnation) world_->violations++;
  const Chunk& chunk = world_->chunks[sqe.offset / kChunkBytes];
  if (sqe.chunk_version < chunk.version) return -ESTALE;
  uint32_t state = chunk.states[sqe.target - 1];
  if (sqe.target > chunk.copies || state == WEFT_COPY_STALE) world_->violations++;
  if (sqe.op == WEFT_OP_READ) {
    target.reads++;
    if (state != WEFT_COPY_IN_SYNC) world_->violations++;
    if (target.read_error) return -target.read_error;
    const uint64_t bad = target.bad_block * WEFT_BLOCK_BYTES;
    if (bad && sqe.offset <= bad && bad < sqe.offset + sqe.length) return -EBADMSG;
    std::memcpy(attachment_.pool() + sqe.buf, target.data + sqe.offset, sqe.length);
  } else if (sqe.op == WEFT_OP_WRITE) {
    target.writes++;
    if (chunk.copies > 1 && !chunk.open) world_->violations++;
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
  chunk.count = world_->chunks[index].copies;
  for (uint32_t i = 0; i < chunk.count; ++i) {
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
  if (request.index >= kChunks || !request.copy_mask || request.copy_mask >> world_->chunks[request.index].copies) {
    world_->violations++;
    return -EINVAL;
  }
  Chunk& chunk = world_->chunks[request.index];
  if (chunk.deleted) return -ENOENT;
  if (request.version != chunk.version) return -ESTALE;
  bool left = false;
  for (uint32_t i = 0; i < chunk.copies; ++i) {
    left |= chunk.states[i] == WEFT_COPY_IN_SYNC && !(request.copy_mask >> i & 1);
  }
  if (!left) return -EBUSY;
  for (uint32_t i = 0; i < chunk.copies; ++i) {
    if (request.copy_mask >> i & 1) chunk.states[i] = WEFT_COPY_STALE;
  }
  chunk.version++;
  world_->marked_stale++;
  return Reply(reply, Map(request.index));
}

int32_t Agent::OpenOrClose(const weft_chunks_req& request, bool open) {
  if (!request.count || request.count > WEFT_CHUNKS_PER_CALL) world_->violations++;
  for (uint32_t i = 0; i < request.count; ++i) {
    if (request.indexes[i] >= kChunks) return -ENOENT;
    bool was = world_->chunks[request.indexes[i]].open.exchange(open);
    if (!open && !was) world_->violations++;
    (open ? world_->opened : world_->closed)++;
  }
  return 0;
}

int32_t Agent::Lookup(const weft_meta_req* request, char* reply) const {
  auto* args = reinterpret_cast<const weft_lookup_req*>(request + 1);
  std::string_view name(reinterpret_cast<const char*>(args + 1), args->name_bytes);
  for (uint64_t ino = kFileIno; ino < kInos; ++ino) {
    if (name == kNames[ino]) return Reply(reply, AttrOf(*world_, ino));
  }
  return -ENOENT;
}

int32_t Agent::SetAttr(const weft_meta_req* request, char* reply) {
  auto* args = reinterpret_cast<const weft_setattr_req*>(request + 1);
  if (args->valid & WEFT_SET_COPIES) world_->copies[request->ino] = args->copies;
  return Reply(reply, AttrOf(*world_, request->ino));
}

int32_t Agent::Commit(const weft_commit_req& request) {
  auto* at = reinterpret_cast<const char*>(&request + 1);
  for (uint32_t i = 0; i < request.count; ++i) {
    auto* file = reinterpret_cast<const weft_commit*>(at);
    auto* extents = reinterpret_cast<const weft_extent*>(file + 1);
    for (uint32_t j = 0; j < file->extents; ++j) {
      const weft_extent& extent = extents[j];
      world_->committed[file->ino] |= 1ull << extent.pool_block / kChunkBlocks;
      for (uint64_t block = extent.pool_block; block < extent.pool_block + extent.blocks; ++block) {
        const Chunk& chunk = world_->chunks[block / kChunkBlocks];
        if (file->ino != kFileIno && !chunk.granted[block % kChunkBlocks]) world_->violations++;
      }
    }
    at = reinterpret_cast<const char*>(extents + file->extents);
  }
  return 0;
}

// Half a chunk in each range, and two ranges at most.
int32_t Agent::Grant(const weft_grant_req& request, char* reply) {
  constexpr uint32_t kRanges = 2, kBlocks = kChunkBlocks / 2;
  weft_ranges head{};
  if (!request.copies || request.copies > WEFT_COPIES_MAX || !request.ranges_max) world_->violations++;
  if (request.copies > kClasses) return -ENOSPC;
  uint32_t kind = request.copies == 2 ? 0 : 1;
  uint32_t first = kFileChunks + kind * kGrantedChunks;
  for (uint32_t half = 0; half < 2 * kGrantedChunks && head.count < kRanges; ++half) {
    Chunk& chunk = world_->chunks[first + half / 2];
    weft_range range{first * uint64_t{kChunkBlocks} + half * kBlocks, 0};
    auto granted = [&](uint64_t block) -> std::atomic<bool>& {
      return chunk.granted[(range.pool_block + block) % kChunkBlocks];
    };
    while (range.blocks < kBlocks && !granted(range.blocks)) granted(range.blocks++) = true;
    if (!range.blocks) continue;
    chunk.open = true;
    world_->granted[kind] += range.blocks;
    Reply(reply + sizeof(head) + head.count++ * sizeof(range), range);
  }
  return head.count ? Reply(reply, head) + head.count * sizeof(weft_range) : -ENOSPC;
}

int32_t Agent::Release(const weft_ranges& request) {
  for (uint32_t i = 0; i < request.count; ++i) {
    const weft_range& range = request.ranges[i];
    for (uint64_t block = range.pool_block; block < range.pool_block + range.blocks; ++block) {
      if (!world_->chunks[block / kChunkBlocks].granted[block % kChunkBlocks].exchange(false)) world_->violations++;
    }
    world_->released++;
  }
  return -world_->release_error;
}

int32_t Agent::Meta(const weft_sqe& sqe) {
  auto* request = reinterpret_cast<const weft_meta_req*>(attachment_.pool() + sqe.buf);
  char* reply = attachment_.pool() + sqe.buf + WEFT_META_REQ_BYTES;
  const void* args = request + 1;
  world_->calls++;
  if (request->length != sqe.length || request->reserved) world_->violations++;
  if (world_->session_ended && request->op != WEFT_META_UNMOUNT) return -ESTALE;
  switch (request->op) {
    case WEFT_META_MOUNT: {
      weft_mount_rep mount{};
      mount.session = kSession;
      mount.root_ino = kRootIno;
      mount.pool_blocks = kPoolBytes / WEFT_BLOCK_BYTES;
      mount.block_bytes = WEFT_BLOCK_BYTES;
      mount.chunk_blocks = kChunkBytes / WEFT_BLOCK_BYTES;
      mount.copies = 2;
      mount.root = AttrOf(*world_, kRootIno);
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
      return Reply(reply, AttrOf(*world_, request->ino));
    case WEFT_META_SETATTR:
      return SetAttr(request, reply);
    case WEFT_META_GET_EXTENTS: {
      weft_get_extents_rep head{};
      weft_extent extent{};
      if (request->ino == kFileIno) extent.blocks = kFileBytes / WEFT_BLOCK_BYTES;
      head.count = static_cast<const weft_get_extents_req*>(args)->file_block < extent.blocks;
      head.eof = 1;
      int32_t bytes = Reply(reply, head);
      return head.count ? bytes + Reply(reply + bytes, extent) : bytes;
    }
    case WEFT_META_GET_CHUNKS:
      return GetChunks(*static_cast<const weft_get_chunks_req*>(args), reply);
    case WEFT_META_MARK_STALE:
      return MarkStale(*static_cast<const weft_mark_stale_req*>(args), reply);
    case WEFT_META_OPEN_CHUNKS:
      return OpenOrClose(*static_cast<const weft_chunks_req*>(args), true);
    case WEFT_META_CLOSE_CHUNKS:
      return OpenOrClose(*static_cast<const weft_chunks_req*>(args), false);
    case WEFT_META_COMMIT:
      return Commit(*static_cast<const weft_commit_req*>(args));
    case WEFT_META_RELEASE:
      return Release(*static_cast<const weft_ranges*>(args));
    case WEFT_META_EVICT:
      return 0;
    case WEFT_META_GRANT:
      return Grant(*static_cast<const weft_grant_req*>(args), reply);
    default:
      return -EPERM;
  }
}

}  // namespace

World* NewWorld() {
  void* memory = mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  World* world = new (memory) World;
  for (uint32_t i = kChunks - kGrantedChunks; i < kChunks; ++i) world->chunks[i].copies = 1;
  return world;
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
