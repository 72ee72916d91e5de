// SPDX-License-Identifier: MIT
//
// Speaks nonsense to the RDMA port of a running weft-target, then checks that it still serves.
//
//   rdma_garbage --target HOST:PORT [--key FILE --session N] [--seed N] [--rounds N]
//
// With the key also what only a member of the cluster could send; N must be the cluster's current
// session then: a higher one fences it. Nothing is written to the target. Exit status: 0, 1 when
// something was not refused or the target does not serve any more.
#include <poll.h>

#include <cstdio>
#include <iostream>

#include <boost/program_options.hpp>

#include "rdma/block_initiator.h"
#include "rdma/garbage_peer.h"
#include "userland/base/address.h"
#include "userland/base/key.h"
#include "userland/base/log.h"

namespace weft {
namespace {

namespace po = boost::program_options;

constexpr uint32_t kTarget = 1;
constexpr size_t kPoolBytes = 1 << 20;
constexpr uint32_t kVerifyNumber = 0xfffffffe;  // beside the agent's own connections
constexpr int kTurnMs = 5;

Status StillServes(const Address& address, const std::vector<uint8_t>& key, uint64_t session) {
  std::vector<uint8_t> pool(kPoolBytes);
  auto initiator = rdma::BlockInitiator::Create(rdma::RealVerbs(), {.memory = pool.data(),
                                                                    .memory_bytes = pool.size(),
                                                                    .session = session,
                                                                    .cluster_key = key,
                                                                    .detect_ms = 10000,
                                                                    .number = kVerifyNumber});
  if (!initiator.ok()) return initiator.status();
  Status state;
  (*initiator)->OnTargetState([&](uint32_t, const Status& s, uint64_t) { state = s; });
  rdma::TargetEndpoint endpoint{.id = kTarget, .name = address.ToString(), .host = address.host, .port = address.port};
  if (Status s = (*initiator)->SetTarget(endpoint); !s.ok()) return s;
  if (Status s = (*initiator)->Submit(kTarget, {.tag = 1, .length_bytes = kPoolBytes}); !s.ok()) return s;
  std::vector<rdma::BlockCompletion> done;
  while (done.empty()) {
    (*initiator)->Kick();
    (*initiator)->Poll(&done);
    pollfd fd{.fd = (*initiator)->event_fd(), .events = POLLIN, .revents = 0};
    if (done.empty() && (*initiator)->ArmNotify()) poll(&fd, 1, -1);
  }
  if (done[0].result == static_cast<int32_t>(kPoolBytes)) return Status::Ok();
  return state.ok() ? Status::Errno(-done[0].result, "a read failed") : state;
}

int Main(int argc, char** argv) {
  std::string target, key_file;
  rdma::GarbageOptions options;
  po::options_description description("rdma_garbage");
  auto add = description.add_options();
  add("target", po::value(&target)->required());
  add("key", po::value(&key_file));
  add("session", po::value(&options.session));
  add("seed", po::value(&options.seed));
  add("rounds", po::value(&options.rounds));
  try {
    po::variables_map vm;
    po::store(po::command_line_parser(argc, argv).options(description).run(), vm);
    po::notify(vm);
  } catch (const po::error& e) {
    std::cerr << "rdma_garbage: " << e.what() << "\n";
    return 2;
  }
  if (Status s = InitLog("rdma_garbage", "info"); !s.ok()) return 2;
  auto address = ParseAddress(target, kTargetPort);
  if (!address.ok()) {
    LogError("{}", address.status().message());
    return 2;
  }
  if (!key_file.empty()) {
    auto key = LoadClusterKey(key_file);
    if (!key.ok()) {
      LogError("{}", key.status().message());
      return 2;
    }
    options.key = *key;
  }
  options.host = address->host;
  options.port = address->port;
  options.turn = [] { poll(nullptr, 0, kTurnMs); };
  rdma::GarbagePeer peer(rdma::RealVerbs(), options);
  Status s = peer.Run();
  printf("rdma_garbage: %d attempts, seed %u\n", peer.attempts(), options.seed);
  if (s.ok() && !options.key.empty()) s = StillServes(*address, options.key, options.session);
  if (s.ok()) return 0;
  LogError("{}", s.message());
  return 1;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main(argc, argv); }
