// SPDX-License-Identifier: MIT
//
// channel_test [NAME]...: tests of weft.ko below the VFS, as root, with the module inserted and no agent.
// Exit status 0: passed, 1: failed, 77: skipped.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "tests/kmod/cases.h"
#include "tests/kmod/check.h"

namespace weft::kmod_test {

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    usleep(5000);
  }
  return false;
}

namespace {

int Run(const std::vector<std::string>& wanted) {
  if (access("/dev/weft", R_OK | W_OK)) {
    std::cerr << "channel_test: no /dev/weft: insert weft.ko and run as root" << std::endl;
    return 77;
  }
  std::vector<Case> cases = DeviceCases();
  for (auto more : {MountCases, ChunkCases, DirectCases, OpenCases, SpaceCases}) {
    for (const Case& c : more()) cases.push_back(c);
  }
  std::string failed;
  for (const Case& c : cases) {
    if (!wanted.empty() && std::ranges::find(wanted, c.name) == wanted.end()) continue;
    int before = failures;
    std::cout << c.name << " ..." << std::endl;
    auto start = std::chrono::steady_clock::now();
    c.run();
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (failures != before) failed += std::string(" ") + c.name;
    std::cout << c.name << (failures == before ? ": ok" : ": FAILED") << ", " << took.count() << " s" << std::endl;
  }
  std::cout << "channel_test: " << (failures ? "FAILED:" + failed : "OK") << std::endl;
  return failures ? 1 : 0;
}

}  // namespace
}  // namespace weft::kmod_test

int main(int argc, char** argv) { return weft::kmod_test::Run({argv + 1, argv + argc}); }
