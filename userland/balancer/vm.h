// SPDX-License-Identifier: MIT
//
// An interpreter of the eBPF instruction set (RFC 9669, with the 32-bit jumps, atomics and the additions of
// -mcpu=v4), so that a policy can be tried without a kernel and without root. What it runs is the very
// object that the kernel would load.
//
// It is not the verifier: it refuses what it cannot run, and ends a program at the first illegal step; it
// does not prove that a program never takes one. Check() looks at code before it runs; Run() checks each
// access to memory and counts instructions, so that no code, of whatever origin, does harm. One thread.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "userland/balancer/vm_map.h"
#include "userland/balancer/vm_memory.h"
#include "userland/base/status.h"

namespace weft::balancer {

// What a program sees of the world.
class VmHost {
 public:
  virtual ~VmHost() = default;
  virtual uint64_t NowNs() = 0;
  virtual uint32_t Random() = 0;
  // int weft_target_stat(u32 id, struct weft_target_stat *stat, u32 size): 0 or -errno.
  virtual int TargetStat(uint32_t id, std::span<std::byte> stat) = 0;
};

// The kfunc that policies may call, as a call instruction (BPF_PSEUDO_KFUNC_CALL) names it here.
inline constexpr int32_t kVmKfuncTargetStat = 1;

// How an LD_IMM64 names a map: these addresses are no memory.
inline constexpr uint64_t kVmMapHandles = 0xffff'0000'0000'0000;

struct VmProgram {
  std::vector<bpf_insn> code;  // all functions; calls and jumps are relative, as in the kernel
  std::vector<std::unique_ptr<VmMap>> maps;
};

class Vm {
 public:
  static constexpr uint64_t kInstructionsMax = 10'000'000;  // of one run
  static constexpr size_t kFramesMax = 8;
  static constexpr size_t kStackBytes = 512;  // of each frame

  // Refuses what Run() could not run: unknown instructions, helpers and registers, jumps out of the code.
  // EINVAL names the instruction.
  static Status Check(std::span<const bpf_insn> code);

  // `program` has passed Check(). All three must outlive this object.
  Vm(const VmProgram* program, VmMemory* memory, VmHost* host);

  // Runs the function that begins at `entry` with r1, and answers its r0. EFAULT names the instruction that
  // took an illegal step; ELOOP: more than kInstructionsMax.
  Result<uint64_t> Run(size_t entry, uint64_t r1);

 private:
  struct Frame {
    size_t return_to;
    uint64_t saved[4];  // r6 .. r9
  };

  Status Step();
  Status Alu(const bpf_insn& insn);
  Status Load(const bpf_insn& insn);
  Status Store(const bpf_insn& insn);
  Status Atomic(const bpf_insn& insn);
  Status Jump(const bpf_insn& insn);
  Status Call(const bpf_insn& insn);
  Status CallHelper(int32_t id);
  Status CallKfunc();
  Status CallLocal(const bpf_insn& insn);
  void Return();
  Status MapHelper(int32_t id);
  Status ProbeRead();
  Status Illegal(std::string_view what) const;
  Status IllegalAccess(uint64_t address, uint64_t size) const;

  const VmProgram* const program_;
  VmMemory* const memory_;
  VmHost* const host_;
  std::vector<std::byte> stack_;
  uint64_t stack_address_;
  uint64_t r_[11] = {};
  size_t pc_ = 0;
  std::vector<Frame> frames_;
  bool running_ = false;
};

}  // namespace weft::balancer
