// SPDX-License-Identifier: MIT
//
// balancer_swaps COUNT OBJECT...: attaches the first policy, replaces it COUNT times by the next one in turn and
// detaches. Exit status 0, or 1 with the reason.
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "userland/balancer/bpf_host.h"
#include "userland/balancer/choice.h"

namespace weft::balancer {
namespace {

// Each is loaded once: the verifier takes far longer than a swap.
Status Swap(int count, const std::vector<std::string>& policies) {
  std::unique_ptr<BpfHost> host = MakeBpfHost();
  if (Status s = host->Lock(); !s.ok()) return s;
  std::vector<std::unique_ptr<Program>> programs;
  std::unique_ptr<Link> link;
  for (const std::string& policy : policies) {
    Result<std::vector<std::byte>> object = ReadObject(policy);
    if (!object.ok()) return object.status();
    Result<std::unique_ptr<Program>> program = host->Load(*object, policy);
    if (!program.ok()) return program.status();
    programs.push_back(*std::move(program));
    // the first one is attached; of the others this readies the map, as Link::Update() demands
    Result<std::unique_ptr<Link>> attached = host->Attach(*programs.back());
    if (!attached.ok() && attached.status().code() != EBUSY) return attached.status();
    if (attached.ok()) link = *std::move(attached);
  }
  if (link == nullptr) return Error(EBUSY, "a policy is attached already; `weftctl balancer set round_robin`");
  for (int i = 1; i <= count; ++i) {
    if (Status s = link->Update(*programs[i % programs.size()]); !s.ok()) return s.Annotate(fmt::format("swap {}", i));
  }
  return link->Detach();
}

int Main(int argc, char** argv) {
  int count = 0;
  if (argc >= 2) std::from_chars(argv[1], argv[1] + strlen(argv[1]), count);
  if (argc < 3 || count <= 0) {
    fprintf(stderr, "usage: balancer_swaps COUNT OBJECT...\n");
    return 2;
  }
  Status swapped = Swap(count, {argv + 2, argv + argc});
  if (!swapped.ok()) {
    fprintf(stderr, "%s\n", swapped.message().c_str());
    return 1;
  }
  printf("%d swaps\n", count);
  return 0;
}

}  // namespace
}  // namespace weft::balancer

int main(int argc, char** argv) { return weft::balancer::Main(argc, argv); }
