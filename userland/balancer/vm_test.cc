// SPDX-License-Identifier: MIT
#include "userland/balancer/vm.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "userland/balancer/vm_opcodes.h"

namespace weft::balancer {
namespace {

bpf_insn Insn(int code, int dst = 0, int src = 0, int off = 0, int64_t imm = 0) {
  bpf_insn insn = {};
  insn.code = static_cast<uint8_t>(code);
  insn.dst_reg = static_cast<uint8_t>(dst);
  insn.src_reg = static_cast<uint8_t>(src);
  insn.off = static_cast<int16_t>(off);
  insn.imm = static_cast<int32_t>(imm);
  return insn;
}

bpf_insn Exit() { return Insn(BPF_JMP | BPF_EXIT); }
bpf_insn MovK(int dst, int64_t imm) { return Insn(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm); }
bpf_insn MovX(int dst, int src) { return Insn(BPF_ALU64 | BPF_MOV | BPF_X, dst, src); }
bpf_insn Helper(int id) { return Insn(BPF_JMP | BPF_CALL, 0, 0, 0, id); }

void Const64(std::vector<bpf_insn>* code, int dst, uint64_t value) {
  code->push_back(Insn(BPF_LD | BPF_IMM | BPF_DW, dst, 0, 0, static_cast<int32_t>(value)));
  code->push_back(Insn(0, 0, 0, 0, static_cast<int32_t>(value >> 32)));
}

class FakeHost : public VmHost {
 public:
  uint64_t NowNs() override { return 12345; }
  uint32_t Random() override { return 0xfedcba98; }
  int TargetStat(uint32_t id, std::span<std::byte> stat) override {
    if (id != 7) return -ENOENT;
    std::ranges::fill(stat, std::byte{0x11});
    return 0;
  }
};

// Runs code with two regions: one to write to, whose address is r1, and one to read, right after it.
struct Machine {
  Machine() {
    writable.resize(64);
    readable.assign(64, std::byte{0xaa});
    write_address = memory.Map(writable);
    read_address = memory.Map(readable, VmMemory::kRead);
  }
  Result<uint64_t> Run(std::vector<bpf_insn> code) {
    program.code = std::move(code);
    if (Status s = Vm::Check(program.code); !s.ok()) return s;
    return Vm(&program, &memory, &host).Run(0, write_address);
  }
  VmMemory memory;
  std::vector<std::byte> writable, readable;
  uint64_t write_address, read_address;
  VmProgram program;
  FakeHost host;
};

struct AluCase {
  int op;
  uint64_t a, b;
  uint64_t wide, narrow;  // results of the 64-bit and the 32-bit class
  int off = 0;
};

// From RFC 9669, sections 4.1 and 4.2.
const AluCase kAluCases[] = {
    {BPF_ADD, 0xffffffff, 1, 0x100000000, 0},
    {BPF_SUB, 0, 1, ~0ull, 0xffffffff},
    {BPF_MUL, 0x100000001, 0x100000001, 0x200000001, 1},
    {BPF_DIV, 0x100000007, 2, 0x80000003, 3},
    {BPF_DIV, 5, 0, 0, 0},
    {BPF_DIV, static_cast<uint64_t>(-7), 2, static_cast<uint64_t>(-3), 0xfffffffd, kSigned},
    {BPF_DIV, 0x8000000000000000, ~0ull, 0x8000000000000000, 0, kSigned},
    {BPF_DIV, 0x80000000, ~0ull, static_cast<uint64_t>(-0x80000000ll), 0x80000000, kSigned},
    {BPF_MOD, 0x100000007, 4, 3, 3},
    {BPF_MOD, 0x100000007, 0, 0x100000007, 7},
    {BPF_MOD, static_cast<uint64_t>(-7), 2, ~0ull, 0xffffffff, kSigned},
    {BPF_MOD, 0x8000000000000000, ~0ull, 0, 0, kSigned},
    {BPF_OR, 0xf0f0f0f0f0f0f0f0, 0x0f, 0xf0f0f0f0f0f0f0ff, 0xf0f0f0ff},
    {BPF_AND, 0xf0f0f0f0f0f0f0f0, 0xff, 0xf0, 0xf0},
    {BPF_XOR, 0xff00ff00ff00ff00, ~0ull, 0x00ff00ff00ff00ff, 0x00ff00ff},
    {BPF_LSH, 1, 63, 0x8000000000000000, 0x80000000},
    {BPF_LSH, 1, 65, 2, 2},
    {BPF_RSH, 0x8000000080000000, 4, 0x0800000008000000, 0x08000000},
    {BPF_ARSH, 0x8000000080000000, 4, 0xf800000008000000, 0xf8000000},
    {BPF_MOV, 1, 0x123456789abcdef0, 0x123456789abcdef0, 0x9abcdef0},
    {BPF_MOV, 1, 0x80, 0xffffffffffffff80, 0xffffff80, 8},
    {BPF_MOV, 1, 0x7fff, 0x7fff, 0x7fff, 16},
};

TEST(VmTest, Arithmetic) {
  for (const AluCase& c : kAluCases) {
    for (bool wide : {true, false}) {
      std::vector<bpf_insn> code;
      Const64(&code, 0, c.a);
      Const64(&code, 2, c.b);
      code.push_back(Insn((wide ? BPF_ALU64 : BPF_ALU) | c.op | BPF_X, 0, 2, c.off));
      code.push_back(Exit());
      Machine machine;
      Result<uint64_t> result = machine.Run(code);
      ASSERT_TRUE(result.ok()) << result.status().message();
      EXPECT_EQ(*result, wide ? c.wide : c.narrow) << std::hex << c.op << " " << c.a << " " << c.b << " wide " << wide;
    }
  }
}

TEST(VmTest, ImmediatesExtendTheirSign) {
  Machine machine;
  EXPECT_EQ(*machine.Run({MovK(0, -1), Exit()}), ~0ull);
  EXPECT_EQ(*machine.Run({Insn(BPF_ALU | BPF_MOV | BPF_K, 0, 0, 0, -1), Exit()}), 0xffffffffull);
  EXPECT_EQ(*machine.Run({MovK(0, 5), Insn(BPF_ALU64 | BPF_NEG, 0), Exit()}), static_cast<uint64_t>(-5));
}

TEST(VmTest, ByteOrder) {
  struct {
    int code, bits;
    uint64_t result;
  } cases[] = {{BPF_ALU | BPF_END | BPF_TO_LE, 16, 0x7788},
               {BPF_ALU | BPF_END | BPF_TO_LE, 32, 0x55667788},
               {BPF_ALU | BPF_END | BPF_TO_LE, 64, 0x1122334455667788},
               {BPF_ALU | BPF_END | BPF_TO_BE, 16, 0x8877},
               {BPF_ALU | BPF_END | BPF_TO_BE, 32, 0x88776655},
               {BPF_ALU | BPF_END | BPF_TO_BE, 64, 0x8877665544332211},
               {BPF_ALU64 | BPF_END, 32, 0x88776655}};
  for (const auto& c : cases) {
    std::vector<bpf_insn> code;
    Const64(&code, 0, 0x1122334455667788);
    code.push_back(Insn(c.code, 0, 0, 0, c.bits));
    code.push_back(Exit());
    Machine machine;
    EXPECT_EQ(*machine.Run(code), c.result) << c.code << " " << c.bits;
  }
}

TEST(VmTest, Jumps) {
  struct {
    int op;
    int64_t a, b;
    bool wide, narrow;
  } cases[] = {
      {BPF_JEQ, 5, 5, true, true},
      {BPF_JEQ, 0x100000005, 5, false, true},
      {BPF_JNE, 0x100000005, 5, true, false},
      {BPF_JGT, -1, 1, true, true},
      {BPF_JSGT, -1, 1, false, false},
      {BPF_JGE, 1, 1, true, true},
      {BPF_JSGE, -2, -1, false, false},
      {BPF_JLT, 1, -1, true, true},
      {BPF_JSLT, -1, 1, true, true},
      {BPF_JLE, 0x100000000, 1, false, true},
      {BPF_JSLE, 1, 1, true, true},
      {BPF_JSET, 0x100000000, 0x100000000, true, false},
  };
  for (const auto& c : cases) {
    for (bool wide : {true, false}) {
      std::vector<bpf_insn> code;
      Const64(&code, 1, static_cast<uint64_t>(c.a));
      Const64(&code, 2, static_cast<uint64_t>(c.b));
      code.push_back(MovK(0, 1));
      code.push_back(Insn((wide ? BPF_JMP : BPF_JMP32) | c.op | BPF_X, 1, 2, 1));
      code.push_back(MovK(0, 0));
      code.push_back(Exit());
      Machine machine;
      EXPECT_EQ(*machine.Run(code), (wide ? c.wide : c.narrow) ? 1u : 0u) << std::hex << c.op << " wide " << wide;
    }
  }
  Machine machine;
  EXPECT_EQ(*machine.Run({MovK(0, 1), Insn(BPF_JMP32 | BPF_JA, 0, 0, 0, 1), MovK(0, 0), Exit()}), 1u) << "gotol";
}

TEST(VmTest, LoadsAndStores) {
  for (auto [size, bytes] : {std::pair{BPF_B, 1}, {BPF_H, 2}, {BPF_W, 4}, {BPF_DW, 8}}) {
    Machine machine;
    std::vector<bpf_insn> code;
    Const64(&code, 2, 0xf1f2f3f4f5f6f7f8);
    code.push_back(Insn(BPF_STX | BPF_MEM | size, 1, 2, 8));
    code.push_back(Insn(BPF_LDX | BPF_MEM | size, 0, 1, 8));
    code.push_back(Exit());
    uint64_t mask = bytes == 8 ? ~0ull : (1ull << (8 * bytes)) - 1;
    EXPECT_EQ(*machine.Run(code), 0xf1f2f3f4f5f6f7f8 & mask);
    EXPECT_EQ(machine.writable[8 + bytes], std::byte{0}) << "nothing beyond it is written";
    if (bytes == 8) continue;
    code[code.size() - 2].code = static_cast<uint8_t>(BPF_LDX | kMemSigned | size);
    EXPECT_EQ(*machine.Run(code), 0xf1f2f3f4f5f6f7f8 | ~mask);
  }
  Machine machine;
  EXPECT_EQ(*machine.Run(
                {Insn(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8, -2), Insn(BPF_LDX | BPF_MEM | BPF_DW, 0, 10, -8), Exit()}),
            static_cast<uint64_t>(-2))
      << "the stack";
}

TEST(VmTest, Atomics) {
  struct {
    int op;
    uint64_t memory, returned;
  } cases[] = {{BPF_ADD, 13, 3},
               {BPF_ADD | BPF_FETCH, 13, 10},
               {BPF_AND, 2, 3},
               {BPF_OR | BPF_FETCH, 11, 10},
               {BPF_XOR | BPF_FETCH, 9, 10},
               {BPF_XCHG, 3, 10}};
  for (const auto& c : cases) {
    Machine machine;
    machine.writable[0] = std::byte{10};
    Result<uint64_t> r2 =
        machine.Run({MovK(2, 3), Insn(BPF_STX | BPF_ATOMIC | BPF_DW, 1, 2, 0, c.op), MovX(0, 2), Exit()});
    EXPECT_EQ(*r2, c.returned) << c.op;
    EXPECT_EQ(machine.writable[0], std::byte(c.memory)) << c.op;
  }
  for (auto [expected, memory] : {std::pair{10, 3}, {11, 10}}) {
    Machine machine;
    machine.writable[0] = std::byte{10};
    EXPECT_EQ(
        *machine.Run({MovK(0, expected), MovK(2, 3), Insn(BPF_STX | BPF_ATOMIC | BPF_W, 1, 2, 0, BPF_CMPXCHG), Exit()}),
        10u);
    EXPECT_EQ(machine.writable[0], std::byte(memory));
  }
}

TEST(VmTest, CallsKeepTheCallersRegistersAndFrame) {
  Machine machine;
  EXPECT_EQ(*machine.Run({MovK(6, 40), Insn(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8, 2),
                          Insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 3),
                          Insn(BPF_LDX | BPF_MEM | BPF_DW, 0, 10, -8), Insn(BPF_ALU64 | BPF_ADD | BPF_X, 0, 6), Exit(),
                          // the callee
                          MovK(6, 1), Insn(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8, 99), Exit()}),
            42u);
  Result<uint64_t> endless = machine.Run({Insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, -1), Exit()});
  EXPECT_EQ(endless.status().code(), EFAULT) << "recursion";
}

TEST(VmTest, HelpersAndTheKfunc) {
  Machine machine;
  EXPECT_EQ(*machine.Run({Helper(BPF_FUNC_ktime_get_ns), Exit()}), 12345u);
  EXPECT_EQ(*machine.Run({Helper(BPF_FUNC_get_prandom_u32), Exit()}), 0xfedcba98u);
  bpf_insn stat = Insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, 0, kVmKfuncTargetStat);
  EXPECT_EQ(*machine.Run({MovX(2, 1), MovK(1, 7), MovK(3, 8), stat, Exit()}), 0u);
  EXPECT_EQ(machine.writable[7], std::byte{0x11});
  EXPECT_EQ(machine.writable[8], std::byte{0});
  EXPECT_EQ(*machine.Run({MovX(2, 1), MovK(1, 8), MovK(3, 8), stat, Exit()}), static_cast<uint64_t>(-ENOENT));
  EXPECT_EQ(machine.Run({MovX(2, 1), MovK(1, 7), MovK(3, 65), stat, Exit()}).status().code(), EFAULT);
}

TEST(VmTest, ProbeReadAnswersWhatItCannotRead) {
  Machine machine;
  std::vector<bpf_insn> code = {MovK(2, 8)};
  Const64(&code, 3, machine.read_address);
  code.insert(code.end(), {Helper(BPF_FUNC_probe_read_kernel), Exit()});
  EXPECT_EQ(*machine.Run(code), 0u);
  EXPECT_EQ(machine.writable[0], std::byte{0xaa});
  code[2].imm = 99;  // an address that is nothing
  EXPECT_EQ(*machine.Run(code), static_cast<uint64_t>(-EFAULT));
  EXPECT_EQ(machine.writable[0], std::byte{0}) << "zeroed, as in the kernel";
}

TEST(VmTest, NoAccessBeyondARegion) {
  Machine machine;
  auto load = [&](int64_t offset, int size) {
    return machine.Run({Insn(BPF_LDX | BPF_MEM | size, 0, 1, static_cast<int>(offset)), Exit()}).status().code();
  };
  EXPECT_EQ(load(63, BPF_B), 0);
  EXPECT_EQ(load(64, BPF_B), EFAULT);
  EXPECT_EQ(load(57, BPF_DW), EFAULT);
  EXPECT_EQ(load(-1, BPF_B), EFAULT);
  for (uint64_t address : {uint64_t{0}, uint64_t{8}, ~uint64_t{0}, ~uint64_t{3}, machine.read_address + 64,
                           kVmMapHandles, reinterpret_cast<uint64_t>(machine.readable.data())}) {
    std::vector<bpf_insn> code;
    Const64(&code, 1, address);
    code.insert(code.end(), {Insn(BPF_LDX | BPF_MEM | BPF_DW, 0, 1), Exit()});
    EXPECT_EQ(machine.Run(code).status().code(), EFAULT) << address;
  }
  std::vector<bpf_insn> code;
  Const64(&code, 1, machine.read_address);
  code.insert(code.end(), {Insn(BPF_ST | BPF_MEM | BPF_B, 1), Exit()});
  Status refused = machine.Run(code).status();
  EXPECT_EQ(refused.code(), EFAULT) << "it is to be read only";
  EXPECT_NE(refused.message().find("instruction 2: 1 bytes at "), std::string::npos) << refused.message();
}

TEST(VmTest, EndlessLoopsEnd) {
  Machine machine;
  EXPECT_EQ(machine.Run({Insn(BPF_JMP | BPF_JA, 0, 0, -1)}).status().code(), ELOOP);
}

TEST(VmTest, CheckRefusesWhatItDoesNotKnow) {
  const std::vector<bpf_insn> bad[] = {
      {},
      {MovK(0, 0)},                                                                         // no end
      {Insn(BPF_JMP | BPF_JA, 0, 0, 5), Exit()},                                            // out of the code
      {Insn(BPF_JMP | BPF_JA, 0, 0, -2), Exit()},                                           //
      {Insn(BPF_LD | BPF_IMM | BPF_DW)},                                                    // half a constant
      {Insn(BPF_LD | BPF_IMM | BPF_DW), Exit()},                                            //
      {Insn(BPF_JMP | BPF_JA, 0, 0, 1), Insn(BPF_LD | BPF_IMM | BPF_DW), Insn(0), Exit()},  // into its middle
      {Insn(BPF_LD | BPF_ABS | BPF_W), Exit()},                                             // packets
      {Insn(BPF_ALU64 | BPF_MOV | BPF_K, 11), Exit()},                                      // registers
      {MovK(10, 0), Exit()},                                                                //
      {Insn(BPF_LDX | BPF_MEM | BPF_W, 10, 1), Exit()},                                     //
      {Insn(BPF_ALU64 | 0xe0, 0), Exit()},                                                  // opcodes
      {Insn(BPF_JMP | 0xf0, 0), Exit()},                                                    //
      {Insn(BPF_ALU | BPF_END, 0, 0, 0, 24), Exit()},                                       //
      {Insn(BPF_ALU64 | BPF_ADD | BPF_K, 0, 0, 1), Exit()},                                 //
      {Insn(BPF_STX | BPF_ATOMIC | BPF_B, 1, 2, 0, BPF_ADD), Exit()},                       //
      {Insn(BPF_STX | BPF_ATOMIC | BPF_W, 1, 2, 0, 0x70), Exit()},                          //
      {Insn(BPF_JMP | BPF_CALL | BPF_X, 0, 0, 0, 1), Exit()},                               // callx
      {Helper(BPF_FUNC_send_signal), Exit()},                                               // helpers
      {Insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, 0, 2), Exit()},                   // kfuncs
      {Insn(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 9), Exit()},
  };
  for (const auto& code : bad) {
    EXPECT_EQ(Vm::Check(code).code(), EINVAL) << (code.empty() ? 0 : code[0].code);
  }
  EXPECT_NE(Vm::Check({bad[18]}).message().find("there are map_lookup_elem, "), std::string::npos);
}

// Whatever passes the check runs to an end without touching what is not its own (the sanitizers would tell).
TEST(VmTest, RandomCodeDoesNoHarm) {
  std::mt19937_64 random(7);
  int ran = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::vector<bpf_insn> code(1 + random() % 12);
    for (bpf_insn& insn : code) {
      uint64_t bits = random();
      memcpy(&insn, &bits, sizeof insn);
      if (random() % 2) insn.dst_reg %= 11, insn.src_reg %= 11;
      if (random() % 2) insn.off = static_cast<int16_t>(static_cast<int>(random() % 9) - 4);
      if (random() % 2) insn.imm = static_cast<int32_t>(random() % 16);
    }
    code.push_back(Exit());
    Machine machine;
    machine.program.code = code;
    if (!Vm::Check(code).ok()) continue;
    ++ran;
    Result<uint64_t> result = Vm(&machine.program, &machine.memory, &machine.host).Run(0, machine.write_address);
    EXPECT_TRUE(result.ok() || result.status().code() == EFAULT || result.status().code() == ELOOP);
  }
  EXPECT_GT(ran, 100);
}

class VmMapTest : public testing::Test {
 protected:
  std::unique_ptr<VmMap> Make(uint32_t type, uint32_t entries) {
    Result<std::unique_ptr<VmMap>> map = VmMap::Create({"m", type, 4, 12, entries}, &memory);
    EXPECT_TRUE(map.ok()) << map.status().message();
    return *std::move(map);
  }
  std::span<const std::byte> Key(uint32_t key) {
    key_ = key;
    return std::as_bytes(std::span(&key_, 1));
  }
  VmMemory memory;
  std::vector<std::byte> value = std::vector<std::byte>(12, std::byte{5});

 private:
  uint32_t key_ = 0;
};

TEST_F(VmMapTest, Array) {
  auto map = Make(BPF_MAP_TYPE_ARRAY, 3);
  ASSERT_NE(map->Lookup(Key(2)), 0u);
  EXPECT_EQ(map->Lookup(Key(2)) - map->Lookup(Key(1)), 16u) << "values are aligned";
  EXPECT_EQ(map->Lookup(Key(3)), 0u);
  EXPECT_EQ(map->Update(Key(2), value, BPF_ANY), 0);
  EXPECT_EQ(*memory.At(map->Lookup(Key(2)), 1, VmMemory::kRead), std::byte{5});
  EXPECT_EQ(map->Update(Key(2), value, BPF_NOEXIST), -EEXIST);
  EXPECT_EQ(map->Update(Key(3), value, BPF_ANY), -E2BIG);
  EXPECT_EQ(map->Update(Key(0), value, 9), -EINVAL);
  EXPECT_EQ(map->Delete(Key(0)), -EINVAL);
}

TEST_F(VmMapTest, Hash) {
  auto map = Make(BPF_MAP_TYPE_HASH, 2);
  EXPECT_EQ(map->Lookup(Key(9)), 0u);
  EXPECT_EQ(map->Update(Key(9), value, BPF_EXIST), -ENOENT);
  EXPECT_EQ(map->Update(Key(9), value, BPF_NOEXIST), 0);
  EXPECT_EQ(map->Update(Key(9), value, BPF_NOEXIST), -EEXIST);
  EXPECT_EQ(map->Update(Key(8), value, BPF_ANY), 0);
  EXPECT_EQ(map->Update(Key(7), value, BPF_ANY), -E2BIG);
  EXPECT_EQ(map->Delete(Key(9)), 0);
  EXPECT_EQ(map->Delete(Key(9)), -ENOENT);
  EXPECT_EQ(map->Update(Key(7), value, BPF_ANY), 0);
}

TEST_F(VmMapTest, LruGivesUpWhatWasNotUsedForLongest) {
  auto map = Make(BPF_MAP_TYPE_LRU_HASH, 3);
  for (uint32_t key : {1, 2, 3}) EXPECT_EQ(map->Update(Key(key), value, BPF_ANY), 0);
  EXPECT_NE(map->Lookup(Key(1)), 0u);
  EXPECT_EQ(map->Update(Key(2), value, BPF_EXIST), 0);
  EXPECT_EQ(map->Update(Key(4), value, BPF_ANY), 0);
  EXPECT_EQ(map->Lookup(Key(3)), 0u) << "1 and 2 were used after it";
  EXPECT_EQ(map->Delete(Key(1)), 0);
  EXPECT_EQ(map->Update(Key(5), value, BPF_ANY), 0) << "in the place of 1";
  EXPECT_NE(map->Lookup(Key(2)), 0u);
  EXPECT_NE(map->Lookup(Key(4)), 0u);
  EXPECT_EQ(map->Update(Key(6), value, BPF_ANY), 0);
  EXPECT_EQ(map->Lookup(Key(5)), 0u);
}

TEST_F(VmMapTest, RefusesOthers) {
  const VmMapSpec bad[] = {{"m", BPF_MAP_TYPE_RINGBUF, 0, 0, 4096}, {"m", BPF_MAP_TYPE_ARRAY, 8, 8, 1},
                           {"m", BPF_MAP_TYPE_HASH, 4, 0, 1},       {"m", BPF_MAP_TYPE_HASH, 4, 8, 0},
                           {"m", BPF_MAP_TYPE_HASH, 600, 8, 1},     {"m", BPF_MAP_TYPE_HASH, 4, 1 << 20, 1 << 20}};
  for (const VmMapSpec& spec : bad) EXPECT_EQ(VmMap::Create(spec, &memory).status().code(), EINVAL) << spec.type;
}

}  // namespace
}  // namespace weft::balancer
