// SPDX-License-Identifier: MIT
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "userland/base/log.h"
#include "userland/ctl/command.h"

int main(int argc, char** argv) {
  // A server that goes away while it is written to is an error to report, not a signal to die of.
  signal(SIGPIPE, SIG_IGN);
  if (weft::Status s = weft::InitLog("weftctl", "warning"); !s.ok()) {
    std::cerr << "weftctl: " << s.message() << "\n";
    return EXIT_FAILURE;
  }
  const char* meta = getenv("WEFT_META");
  weft::ctl::World world{.out = std::cout, .err = std::cerr, .meta = meta != nullptr ? meta : ""};
  return weft::ctl::RunWeftctl(std::vector<std::string>(argv + 1, argv + argc), world);
}
