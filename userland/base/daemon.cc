// SPDX-License-Identifier: MIT
#include "userland/base/daemon.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <vector>

namespace weft {

namespace po = boost::program_options;

constexpr char kExcess[] = "excess-word";  // catches what is no option, so that it can be named

std::optional<int> ParseDaemonOptions(int argc, char** argv, std::string_view program, po::options_description options,
                                      DaemonOptions* common, po::variables_map* vm) {
  options.add_options()("cluster", po::value(&common->cluster)->default_value(common->cluster), "name of the cluster")(
      "config", po::value(&common->config_path), "configuration file (TOML); the command line wins")(
      "log-level", po::value(&common->log_level)->default_value(common->log_level),
      "trace, debug, info, warning or error")("ready-fd", po::value(&common->ready_fd),
                                              "write \"ready\" to this file descriptor when serving")(
      "help,h", "print this help")("version", "print the version");
  try {
    // No guessing of abbreviated options: --log must not quietly become --log-level.
    int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::options_description all;
    all.add(options).add_options()(kExcess, po::value<std::vector<std::string>>());
    po::positional_options_description excess;
    excess.add(kExcess, -1);
    po::store(po::command_line_parser(argc, argv).options(all).positional(excess).style(style).run(), *vm);
    if (vm->contains("help")) {
      std::cout << options << std::flush;
      return 0;
    }
    if (vm->contains("version")) {
      std::cout << program << " " << kSoftwareVersion << std::endl;
      return 0;
    }
    if (vm->contains(kExcess)) {
      throw po::error(fmt::format("'{}' is no option", (*vm)[kExcess].as<std::vector<std::string>>().front()));
    }
    po::notify(*vm);
  } catch (const po::error& e) {
    std::cerr << program << ": " << e.what() << "; see " << program << " --help" << std::endl;
    return 2;
  }
  return std::nullopt;
}

bool Given(const po::variables_map& vm, const std::string& name) { return vm.contains(name) && !vm[name].defaulted(); }

void NotifyReady(int ready_fd) {
  sd_notify(0, "READY=1");
  if (ready_fd < 0) return;
  static constexpr std::string_view kReady = "ready\n";
  if (write(ready_fd, kReady.data(), kReady.size()) != static_cast<ssize_t>(kReady.size())) {
    fprintf(stderr, "--ready-fd %d: %m\n", ready_fd);
  }
  close(ready_fd);
}

SignalWaiter::SignalWaiter() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  fd_ = signalfd(-1, &set, SFD_CLOEXEC);
  if (fd_ < 0) {
    perror("signalfd");
    abort();
  }
}

SignalWaiter::~SignalWaiter() { close(fd_); }

int SignalWaiter::Wait() {
  signalfd_siginfo info;
  while (read(fd_, &info, sizeof info) != sizeof info) {
  }
  return static_cast<int>(info.ssi_signo);
}

}  // namespace weft
