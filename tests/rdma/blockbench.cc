// SPDX-License-Identifier: MIT
//
// Measures the block protocol alone: this initiator against a running weft-target, no kernel module.
//
//   blockbench --target HOST:PORT --key FILE --session N [--seconds S] [--depth D] TEST...
//
// TEST: read-latency, write-latency (4 KiB at random offsets, one at a time), read-throughput,
// write-throughput (1 MiB, D in flight), read-iops (4 KiB, D in flight). Writes destroy what the target
// holds. Prints one line per test; exit 1 when a command failed.
#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <random>

#include <boost/program_options.hpp>

#include "rdma/block_initiator.h"
#include "userland/base/address.h"
#include "userland/base/key.h"
#include "userland/base/log.h"
#include "userland/base/yield.h"

namespace weft {
namespace {

namespace po = boost::program_options;
using std::chrono::microseconds;
using std::chrono::steady_clock;

constexpr uint32_t kTarget = 1;
constexpr size_t kPoolBytes = 64 << 20;
constexpr uint32_t kSmall = 4096;
constexpr uint32_t kLarge = 1 << 20;

struct Options {
  std::string target, key;
  uint64_t session = 1;
  uint32_t number = 0;
  double seconds = 3;
  uint32_t depth = 16;
  uint64_t span_mib = 128;
  int64_t spin_us = 50;
  std::vector<std::string> tests;
};

class Bench {
 public:
  Bench(rdma::BlockInitiator* initiator, const Options& options) : initiator_(initiator), options_(options) {
    initiator_->OnTargetState([this](uint32_t, const Status& s, uint64_t) {
      up_ = s.ok();
      if (!s.ok()) LogError("{}", s.message());
      failed_ = failed_ || !s.ok();
    });
  }
  bool WaitUntilUp() {
    while (!up_ && !failed_) Turn();
    return up_;
  }
  bool Run(const std::string& test);

 private:
  void Turn();
  void Submit(rdma::BlockOp op, uint32_t bytes, uint32_t slot);
  bool Latency(const std::string& name, rdma::BlockOp op);
  bool Throughput(const std::string& name, rdma::BlockOp op, uint32_t bytes);

  rdma::BlockInitiator* initiator_;
  const Options& options_;
  bool up_ = false;
  bool failed_ = false;
  std::mt19937_64 random_{1};
  std::vector<rdma::BlockCompletion> done_;
  steady_clock::time_point worked_ = steady_clock::now();
  Yielder yielder_;
};

// One turn of a loop as an agent runs it: look, and sleep when there was nothing for a while.
void Bench::Turn() {
  done_.clear();
  initiator_->Kick();
  if (initiator_->Poll(&done_)) {
    worked_ = steady_clock::now();
    for (const auto& c : done_) {
      if (c.result < 0) {
        LogError("command failed: {}", Status::Errno(-c.result, "result").message());
        failed_ = true;
      }
    }
    return;
  }
  if (steady_clock::now() - worked_ < microseconds(options_.spin_us)) {
    yielder_.Yield();
    return;
  }
  if (!initiator_->ArmNotify()) return;
  pollfd fd{.fd = initiator_->event_fd(), .events = POLLIN, .revents = 0};
  poll(&fd, 1, -1);
}

void Bench::Submit(rdma::BlockOp op, uint32_t bytes, uint32_t slot) {
  uint64_t offset = random_() % ((options_.span_mib << 20) / bytes) * bytes;
  Status s = initiator_->Submit(
      kTarget,
      {.tag = slot, .op = op, .offset_bytes = offset, .length_bytes = bytes, .buffer_offset = uint64_t{slot} * bytes});
  if (!s.ok()) {
    LogError("{}", s.message());
    failed_ = true;
  }
}

bool Bench::Latency(const std::string& name, rdma::BlockOp op) {
  std::vector<double> us;
  auto end = steady_clock::now() + std::chrono::duration<double>(options_.seconds);
  while (steady_clock::now() < end && !failed_) {
    auto start = steady_clock::now();
    Submit(op, kSmall, 0);
    do {
      Turn();
    } while (done_.empty() && !failed_);
    us.push_back(std::chrono::duration<double, std::micro>(steady_clock::now() - start).count());
  }
  if (failed_ || us.empty()) return false;
  std::ranges::sort(us);
  double sum = 0;
  for (double v : us) sum += v;
  printf("%-16s %8.1f us average %8.1f median %8.1f 99%% (%zu)\n", name.c_str(), sum / static_cast<double>(us.size()),
         us[us.size() / 2], us[us.size() * 99 / 100], us.size());
  return true;
}

bool Bench::Throughput(const std::string& name, rdma::BlockOp op, uint32_t bytes) {
  uint64_t finished = 0;
  uint32_t in_flight = 0;
  auto start = steady_clock::now();
  auto end = start + std::chrono::duration<double>(options_.seconds);
  for (uint32_t slot = 0; slot < options_.depth; slot++, in_flight++) Submit(op, bytes, slot);
  while (in_flight > 0 && !failed_) {
    Turn();
    bool more = steady_clock::now() < end;
    for (const auto& c : done_) {
      finished++;
      in_flight--;
      if (!more) continue;
      Submit(op, bytes, static_cast<uint32_t>(c.tag));
      in_flight++;
    }
  }
  if (failed_) return false;
  double seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
  double rate = static_cast<double>(finished) / seconds;
  printf("%-16s %8.1f MiB/s %10.0f IO/s (depth %u)\n", name.c_str(), rate * bytes / (1 << 20), rate, options_.depth);
  return true;
}

bool Bench::Run(const std::string& test) {
  using rdma::BlockOp;
  if (test == "read-latency") return Latency(test, BlockOp::kRead);
  if (test == "write-latency") return Latency(test, BlockOp::kWrite);
  if (test == "read-throughput") return Throughput(test, BlockOp::kRead, kLarge);
  if (test == "write-throughput") return Throughput(test, BlockOp::kWrite, kLarge);
  if (test == "read-iops") return Throughput(test, BlockOp::kRead, kSmall);
  std::cerr << "blockbench: unknown test " << test << "\n";
  return false;
}

int Main(int argc, char** argv) {
  Options o;
  po::options_description description("blockbench");
  auto add = description.add_options();
  add("target", po::value(&o.target)->required());
  add("key", po::value(&o.key)->required());
  add("session", po::value(&o.session), "a smaller one is fenced by the target, a greater one fences");
  add("number", po::value(&o.number), "of this connection in its session: the agent's queues have the first ones");
  add("seconds", po::value(&o.seconds));
  add("depth", po::value(&o.depth));
  add("span-mib", po::value(&o.span_mib));
  add("spin-us", po::value(&o.spin_us));
  add("tests", po::value(&o.tests));
  po::positional_options_description tests;
  tests.add("tests", -1);
  try {
    po::variables_map vm;
    po::store(po::command_line_parser(argc, argv).options(description).positional(tests).run(), vm);
    po::notify(vm);
  } catch (const po::error& e) {
    std::cerr << "blockbench: " << e.what() << "\n";
    return 2;
  }
  if (Status s = InitLog("blockbench", "info"); !s.ok()) return 2;
  auto key = LoadClusterKey(o.key);
  auto address = ParseAddress(o.target, kTargetPort);
  for (const Status& s : {key.status(), address.status()}) {
    if (s.ok()) continue;
    LogError("{}", s.message());
    return 1;
  }
  void* pool = mmap(nullptr, kPoolBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (pool == MAP_FAILED) return 1;
  auto initiator = rdma::BlockInitiator::Create(
      rdma::RealVerbs(),
      {.memory = pool, .memory_bytes = kPoolBytes, .session = o.session, .cluster_key = *key, .number = o.number});
  if (!initiator.ok()) {
    LogError("{}", initiator.status().message());
    return 1;
  }
  Bench bench(initiator->get(), o);
  Status s = (*initiator)->SetTarget({.id = kTarget, .name = o.target, .host = address->host, .port = address->port});
  if (!s.ok()) {
    LogError("{}", s.message());
    return 1;
  }
  if (!bench.WaitUntilUp()) return 1;
  for (const std::string& test : o.tests) {
    if (!bench.Run(test)) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main(argc, argv); }
