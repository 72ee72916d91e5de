// SPDX-License-Identifier: MIT
//
// balancer_swaps COUNT POLICY...: sets the policies in turn, COUNT times in all, as `weftctl balancer set`
// does but in one process. Checks after each that it is in force. Exit status 0, or 1 with the reason.
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "userland/balancer/balancer.h"

namespace weft::balancer {
namespace {

// Policies are named like their objects.
std::string NameOf(const std::string& policy) { return std::filesystem::path(policy).stem().stem(); }

int Main(int argc, char** argv) {
  int count = 0;
  if (argc >= 2) std::from_chars(argv[1], argv[1] + strlen(argv[1]), count);
  if (argc < 3 || count <= 0) {
    fprintf(stderr, "usage: balancer_swaps COUNT POLICY...\n");
    return 2;
  }
  Sysfs sysfs;
  std::string dir = std::filesystem::temp_directory_path() / "balancer_swaps";
  for (int i = 0; i < count; ++i) {
    std::string policy = argv[2 + i % (argc - 2)];
    std::unique_ptr<BpfHost> host = MakeBpfHost();
    Result<Change> change = Balancer(*host, sysfs, ChoiceStore(dir)).Set(policy);
    if (!change.ok()) {
      fprintf(stderr, "swap %d: %s\n", i + 1, change.status().message().c_str());
      return 1;
    }
    if (change->after != NameOf(policy)) {
      fprintf(stderr, "swap %d: %s is in force, not %s\n", i + 1, change->after.c_str(), policy.c_str());
      return 1;
    }
  }
  printf("%d swaps\n", count);
  return 0;
}

}  // namespace
}  // namespace weft::balancer

int main(int argc, char** argv) { return weft::balancer::Main(argc, argv); }
