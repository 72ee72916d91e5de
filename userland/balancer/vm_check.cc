// SPDX-License-Identifier: MIT
//
// Which instructions the interpreter knows: all that Vm::Run() takes for granted.
#include <cerrno>
#include <set>

#include "userland/balancer/vm.h"
#include "userland/balancer/vm_helpers.h"
#include "userland/balancer/vm_opcodes.h"

namespace weft::balancer {
namespace {

class Checker {
 public:
  explicit Checker(std::span<const bpf_insn> code) : code_(code) {}

  Status Run() {
    if (code_.empty()) return Error(EINVAL, "there is no code");
    if (Status s = FindStarts(); !s.ok()) return s;
    for (at_ = 0; at_ < code_.size(); ++at_) {
      if (!starts_[at_]) continue;
      if (Status s = CheckOne(code_[at_]); !s.ok()) return s;
    }
    // Whatever comes last must not run on into nothing.
    size_t last = code_.size() - 1;
    while (last > 0 && !starts_[last]) --last;
    uint8_t code = code_[last].code;
    bool ends = code == (BPF_JMP | BPF_EXIT) || code == (BPF_JMP | BPF_JA) || code == (BPF_JMP32 | BPF_JA);
    if (!ends) return Error(EINVAL, "instruction {}: the code has no end", last);
    return {};
  }

 private:
  // The second half of an LD_IMM64 is no instruction that could be jumped to.
  Status FindStarts() {
    starts_.assign(code_.size(), true);
    for (size_t i = 0; i < code_.size(); ++i) {
      if (code_[i].code != (BPF_LD | BPF_IMM | BPF_DW)) continue;
      if (i + 1 == code_.size() || code_[i + 1].code != 0) {
        return Error(EINVAL, "instruction {}: a 64-bit constant without its second half", i);
      }
      starts_[++i] = false;
    }
    return {};
  }

  Status Bad(std::string_view what) const {
    const bpf_insn& insn = code_[at_];
    return Error(EINVAL, "instruction {}: {} (code {:#04x}, offset {}, immediate {})", at_, what, insn.code, insn.off,
                 insn.imm);
  }

  Status CheckTarget(int64_t offset) const {
    int64_t to = static_cast<int64_t>(at_) + 1 + offset;
    if (to < 0 || to >= static_cast<int64_t>(code_.size()) || !starts_[static_cast<size_t>(to)]) {
      return Bad("a jump to where no instruction is");
    }
    return {};
  }

  Status CheckOne(const bpf_insn& insn) const {
    if (insn.dst_reg > BPF_REG_10 || insn.src_reg > BPF_REG_10) return Bad("there is no such register");
    switch (BPF_CLASS(insn.code)) {
      case BPF_ALU:
      case BPF_ALU64:
        return CheckAlu(insn);
      case BPF_JMP:
      case BPF_JMP32:
        return CheckJump(insn);
      case BPF_LD:
        return CheckConstant(insn);
      default:
        return CheckMemory(insn);
    }
  }

  Status CheckConstant(const bpf_insn& insn) const {
    if (insn.code != (BPF_LD | BPF_IMM | BPF_DW)) return Bad("a load that is not supported");
    if (insn.src_reg != 0) return Bad("a 64-bit constant that was not resolved");
    return CheckWritten(insn);
  }

  // Only the frame may be told by r10.
  Status CheckWritten(const bpf_insn& insn) const {
    return insn.dst_reg == BPF_REG_10 ? Bad("r10 is not to be written") : Status();
  }

  Status CheckAlu(const bpf_insn& insn) const {
    bool is_register = BPF_SRC(insn.code) == BPF_X;
    switch (BPF_OP(insn.code)) {
      case BPF_DIV:
      case BPF_MOD:
        if (insn.off != 0 && insn.off != kSigned) return Bad("an unknown division");
        break;
      case BPF_MOV: {
        bool sign_extends = insn.off == 8 || insn.off == 16 || (insn.off == 32 && BPF_CLASS(insn.code) == BPF_ALU64);
        if (insn.off != 0 && !(is_register && sign_extends)) return Bad("an unknown move");
        break;
      }
      case BPF_END:
        if (insn.imm != 16 && insn.imm != 32 && insn.imm != 64) return Bad("an unknown byte swap");
        break;
      case BPF_ADD:
      case BPF_SUB:
      case BPF_MUL:
      case BPF_OR:
      case BPF_AND:
      case BPF_LSH:
      case BPF_RSH:
      case BPF_NEG:
      case BPF_XOR:
      case BPF_ARSH:
        if (insn.off != 0) return Bad("an unknown arithmetic instruction");
        break;
      default:
        return Bad("an unknown arithmetic instruction");
    }
    return CheckWritten(insn);
  }

  Status CheckJump(const bpf_insn& insn) const {
    bool wide = BPF_CLASS(insn.code) == BPF_JMP;
    switch (BPF_OP(insn.code)) {
      case BPF_JA:
        return CheckTarget(wide ? insn.off : insn.imm);
      case BPF_CALL:
        return wide && BPF_SRC(insn.code) == BPF_K ? CheckCall(insn) : Bad("a call that is not supported");
      case BPF_EXIT:
        return wide ? Status() : Bad("an unknown jump");
      case BPF_JEQ:
      case BPF_JGT:
      case BPF_JGE:
      case BPF_JSET:
      case BPF_JNE:
      case BPF_JSGT:
      case BPF_JSGE:
      case BPF_JLT:
      case BPF_JLE:
      case BPF_JSLT:
      case BPF_JSLE:
        return CheckTarget(insn.off);
      default:
        return Bad("an unknown jump");
    }
  }

  Status CheckCall(const bpf_insn& insn) const {
    if (insn.src_reg == BPF_PSEUDO_CALL) return CheckTarget(insn.imm);
    if (insn.src_reg == BPF_PSEUDO_KFUNC_CALL) {
      return insn.imm == kVmKfuncTargetStat ? Status() : Bad("a call of an unknown kernel function");
    }
    if (insn.src_reg != 0) return Bad("a call that is not supported");
    if (IsVmHelper(insn.imm)) return {};
    return Error(EINVAL, "instruction {}: helper function {} is not in the simulator; there are {}", at_, insn.imm,
                 VmHelperNames());
  }

  Status CheckMemory(const bpf_insn& insn) const {
    bool is_load = BPF_CLASS(insn.code) == BPF_LDX;
    switch (BPF_MODE(insn.code)) {
      case BPF_MEM:
        return is_load ? CheckWritten(insn) : Status();
      case kMemSigned:
        if (!is_load || BPF_SIZE(insn.code) == BPF_DW) return Bad("an unknown load");
        return CheckWritten(insn);
      case BPF_ATOMIC:
        return CheckAtomic(insn);
      default:
        return Bad("an unknown access to memory");
    }
  }

  Status CheckAtomic(const bpf_insn& insn) const {
    bool sized = BPF_SIZE(insn.code) == BPF_W || BPF_SIZE(insn.code) == BPF_DW;
    if (BPF_CLASS(insn.code) != BPF_STX || !sized) return Bad("an unknown atomic instruction");
    switch (insn.imm) {
      case BPF_ADD:
      case BPF_AND:
      case BPF_OR:
      case BPF_XOR:
        return {};
      case BPF_ADD | BPF_FETCH:
      case BPF_AND | BPF_FETCH:
      case BPF_OR | BPF_FETCH:
      case BPF_XOR | BPF_FETCH:
      case BPF_XCHG:
        return insn.src_reg == BPF_REG_10 ? Bad("r10 is not to be written") : Status();
      case BPF_CMPXCHG:
        return {};
      default:
        return Bad("an unknown atomic instruction");
    }
  }

  const std::span<const bpf_insn> code_;
  std::vector<bool> starts_;
  size_t at_ = 0;
};

}  // namespace

Status Vm::Check(std::span<const bpf_insn> code) { return Checker(code).Run(); }

}  // namespace weft::balancer
