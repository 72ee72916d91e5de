// SPDX-License-Identifier: MIT
#include "userland/balancer/vm.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "userland/balancer/vm_opcodes.h"

static_assert(std::endian::native == std::endian::little, "the interpreter takes the host's byte order for BPF's");

namespace weft::balancer {
namespace {

// As the kernel defines it: what is divided by 0 is 0, its remainder itself; the least number by -1 is itself.
template <typename Unsigned, typename Signed>
Unsigned Divide(Unsigned a, Unsigned b, bool is_signed, bool remainder) {
  if (b == 0) return remainder ? a : 0;
  if (!is_signed) return remainder ? a % b : a / b;
  auto x = static_cast<Signed>(a);
  auto y = static_cast<Signed>(b);
  if (y == -1) return remainder ? 0 : Unsigned{0} - a;
  return static_cast<Unsigned>(remainder ? x % y : x / y);
}

uint64_t SignExtend(uint64_t value, int bits) {
  int shift = 64 - bits;
  return static_cast<uint64_t>(static_cast<int64_t>(value << shift) >> shift);
}

template <typename Unsigned, typename Signed>
Unsigned Compute(const bpf_insn& insn, Unsigned a, Unsigned b) {
  constexpr Unsigned kShiftMask = sizeof(Unsigned) * 8 - 1;
  switch (BPF_OP(insn.code)) {
    case BPF_ADD:
      return a + b;
    case BPF_SUB:
      return a - b;
    case BPF_MUL:
      return a * b;
    case BPF_DIV:
      return Divide<Unsigned, Signed>(a, b, insn.off == kSigned, false);
    case BPF_MOD:
      return Divide<Unsigned, Signed>(a, b, insn.off == kSigned, true);
    case BPF_OR:
      return a | b;
    case BPF_AND:
      return a & b;
    case BPF_XOR:
      return a ^ b;
    case BPF_LSH:
      return a << (b & kShiftMask);
    case BPF_RSH:
      return a >> (b & kShiftMask);
    case BPF_ARSH:
      return static_cast<Unsigned>(static_cast<Signed>(a) >> (b & kShiftMask));
    case BPF_NEG:
      return Unsigned{0} - a;
    default:  // BPF_MOV
      return insn.off == 0 ? b : static_cast<Unsigned>(SignExtend(b, insn.off));
  }
}

template <typename Unsigned, typename Signed>
bool Compare(uint8_t op, Unsigned a, Unsigned b) {
  auto x = static_cast<Signed>(a);
  auto y = static_cast<Signed>(b);
  switch (op) {
    case BPF_JEQ:
      return a == b;
    case BPF_JNE:
      return a != b;
    case BPF_JGT:
      return a > b;
    case BPF_JGE:
      return a >= b;
    case BPF_JLT:
      return a < b;
    case BPF_JLE:
      return a <= b;
    case BPF_JSET:
      return (a & b) != 0;
    case BPF_JSGT:
      return x > y;
    case BPF_JSGE:
      return x >= y;
    case BPF_JSLT:
      return x < y;
    default:  // BPF_JSLE
      return x <= y;
  }
}

// BPF_END: to little-endian (nothing but the cut), to big-endian, or (64-bit class) always swapped.
uint64_t Swap(const bpf_insn& insn, uint64_t value) {
  bool swap = BPF_CLASS(insn.code) == BPF_ALU64 || BPF_SRC(insn.code) == BPF_TO_BE;
  switch (insn.imm) {
    case 16:
      return swap ? __builtin_bswap16(static_cast<uint16_t>(value)) : static_cast<uint16_t>(value);
    case 32:
      return swap ? __builtin_bswap32(static_cast<uint32_t>(value)) : static_cast<uint32_t>(value);
    default:
      return swap ? __builtin_bswap64(value) : value;
  }
}

uint64_t SizeOf(uint8_t code) {
  switch (BPF_SIZE(code)) {
    case BPF_B:
      return 1;
    case BPF_H:
      return 2;
    case BPF_W:
      return 4;
    default:
      return 8;
  }
}

// The new value of an atomic instruction but for compare-and-exchange.
uint64_t Combine(int32_t operation, uint64_t old, uint64_t operand) {
  switch (operation & ~BPF_FETCH) {
    case BPF_ADD:
      return old + operand;
    case BPF_AND:
      return old & operand;
    case BPF_OR:
      return old | operand;
    case BPF_XOR:
      return old ^ operand;
    default:  // BPF_XCHG, which has BPF_FETCH
      return operand;
  }
}

}  // namespace

Vm::Vm(const VmProgram* program, VmMemory* memory, VmHost* host)
    : program_(program), memory_(memory), host_(host), stack_(kStackBytes * kFramesMax) {
  stack_address_ = memory_->Map(stack_);
  frames_.reserve(kFramesMax);
}

Status Vm::Illegal(std::string_view what) const { return Error(EFAULT, "instruction {}: {}", pc_ - 1, what); }

Status Vm::IllegalAccess(uint64_t address, uint64_t size) const {
  return Error(EFAULT, "instruction {}: {} bytes at {:#x} are not the program's", pc_ - 1, size, address);
}

Result<uint64_t> Vm::Run(size_t entry, uint64_t r1) {
  std::ranges::fill(r_, 0);
  std::ranges::fill(stack_, std::byte{0});
  r_[1] = r1;
  r_[10] = stack_address_ + kStackBytes;
  pc_ = entry;
  frames_.clear();
  running_ = true;
  for (uint64_t steps = 0; running_; ++steps) {
    if (steps == kInstructionsMax) {
      return Error(ELOOP, "instruction {}: more than {} instructions in one run", pc_, kInstructionsMax);
    }
    if (Status s = Step(); !s.ok()) return s;
  }
  return r_[0];
}

Status Vm::Step() {
  const bpf_insn& insn = program_->code[pc_++];
  switch (BPF_CLASS(insn.code)) {
    case BPF_ALU:
    case BPF_ALU64:
      return Alu(insn);
    case BPF_JMP:
    case BPF_JMP32:
      return Jump(insn);
    case BPF_LD:
      r_[insn.dst_reg] = static_cast<uint32_t>(insn.imm) | static_cast<uint64_t>(program_->code[pc_].imm) << 32;
      ++pc_;
      return {};
    case BPF_LDX:
      return Load(insn);
    default:
      return BPF_MODE(insn.code) == BPF_ATOMIC ? Atomic(insn) : Store(insn);
  }
}

Status Vm::Alu(const bpf_insn& insn) {
  uint64_t& to = r_[insn.dst_reg];
  if (BPF_OP(insn.code) == BPF_END) {
    to = Swap(insn, to);
    return {};
  }
  uint64_t operand = BPF_SRC(insn.code) == BPF_X ? r_[insn.src_reg] : static_cast<uint64_t>(int64_t{insn.imm});
  if (BPF_CLASS(insn.code) == BPF_ALU64) {
    to = Compute<uint64_t, int64_t>(insn, to, operand);
  } else {
    to = Compute<uint32_t, int32_t>(insn, static_cast<uint32_t>(to), static_cast<uint32_t>(operand));
  }
  return {};
}

Status Vm::Load(const bpf_insn& insn) {
  uint64_t address = r_[insn.src_reg] + static_cast<uint64_t>(int64_t{insn.off});
  uint64_t size = SizeOf(insn.code);
  const std::byte* from = memory_->At(address, size, VmMemory::kRead);
  if (from == nullptr) return IllegalAccess(address, size);
  uint64_t value = 0;
  memcpy(&value, from, size);
  if (BPF_MODE(insn.code) == kMemSigned) value = SignExtend(value, static_cast<int>(size) * 8);
  r_[insn.dst_reg] = value;
  return {};
}

Status Vm::Store(const bpf_insn& insn) {
  uint64_t address = r_[insn.dst_reg] + static_cast<uint64_t>(int64_t{insn.off});
  uint64_t size = SizeOf(insn.code);
  uint64_t value = BPF_CLASS(insn.code) == BPF_STX ? r_[insn.src_reg] : static_cast<uint64_t>(int64_t{insn.imm});
  std::byte* to = memory_->At(address, size, VmMemory::kWrite);
  if (to == nullptr) return IllegalAccess(address, size);
  memcpy(to, &value, size);
  return {};
}

Status Vm::Atomic(const bpf_insn& insn) {
  uint64_t address = r_[insn.dst_reg] + static_cast<uint64_t>(int64_t{insn.off});
  uint64_t size = SizeOf(insn.code);
  uint64_t mask = size == 8 ? ~uint64_t{0} : 0xffff'ffff;
  std::byte* at = memory_->At(address, size, VmMemory::kWrite);
  if (at == nullptr) return IllegalAccess(address, size);
  uint64_t old = 0;
  memcpy(&old, at, size);
  uint64_t operand = r_[insn.src_reg];
  if (insn.imm == BPF_CMPXCHG) {
    uint64_t value = old == (r_[0] & mask) ? operand : old;
    memcpy(at, &value, size);
    r_[0] = old;
    return {};
  }
  uint64_t value = Combine(insn.imm, old, operand);
  memcpy(at, &value, size);
  if (insn.imm & BPF_FETCH) r_[insn.src_reg] = old;
  return {};
}

Status Vm::Jump(const bpf_insn& insn) {
  uint8_t op = BPF_OP(insn.code);
  bool wide = BPF_CLASS(insn.code) == BPF_JMP;
  switch (op) {
    case BPF_JA:
      pc_ += static_cast<size_t>(int64_t{wide ? insn.off : insn.imm});
      return {};
    case BPF_CALL:
      return Call(insn);
    case BPF_EXIT:
      Return();
      return {};
    default:
      break;
  }
  uint64_t a = r_[insn.dst_reg];
  uint64_t b = BPF_SRC(insn.code) == BPF_X ? r_[insn.src_reg] : static_cast<uint64_t>(int64_t{insn.imm});
  bool taken = wide ? Compare<uint64_t, int64_t>(op, a, b)
                    : Compare<uint32_t, int32_t>(op, static_cast<uint32_t>(a), static_cast<uint32_t>(b));
  if (taken) pc_ += static_cast<size_t>(int64_t{insn.off});
  return {};
}

Status Vm::Call(const bpf_insn& insn) {
  switch (insn.src_reg) {
    case BPF_PSEUDO_CALL:
      return CallLocal(insn);
    case BPF_PSEUDO_KFUNC_CALL:
      return CallKfunc();
    default:
      return CallHelper(insn.imm);
  }
}

Status Vm::CallLocal(const bpf_insn& insn) {
  if (frames_.size() + 1 == kFramesMax) return Illegal("calls are nested too deeply");
  Frame frame = {.return_to = pc_, .saved = {r_[6], r_[7], r_[8], r_[9]}};
  frames_.push_back(frame);
  r_[10] += kStackBytes;
  pc_ += static_cast<size_t>(int64_t{insn.imm});
  return {};
}

void Vm::Return() {
  if (frames_.empty()) {
    running_ = false;
    return;
  }
  const Frame& frame = frames_.back();
  for (int i = 0; i < 4; ++i) r_[6 + i] = frame.saved[i];
  pc_ = frame.return_to;
  r_[10] -= kStackBytes;
  frames_.pop_back();
}

}  // namespace weft::balancer
