// SPDX-License-Identifier: MIT
//
// What every weftfs daemon shares: its options, telling the world that it is ready, and signals.
//
//   int main(int argc, char** argv) {
//     SignalWaiter signals;                        // first: all threads inherit the blocked signals
//     DaemonOptions common;
//     boost::program_options::options_description options("weft-x: what it is");
//     options.add_options()("data", po::value(&data), "...");
//     if (auto exit_code = ParseDaemonOptions(argc, argv, "weft-x", options, &common, &vm)) return *exit_code;
//     ... read common.config_path, InitLog(...), start ...
//     NotifyReady(common.ready_fd);
//     signals.Wait();
//   }
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <boost/program_options.hpp>

#include "userland/base/status.h"

namespace weft {

inline constexpr std::string_view kSoftwareVersion = "0.1.0";

struct DaemonOptions {
  std::string cluster = "weft";
  std::string config_path;  // empty: none was named
  std::string log_level = "info";
  int ready_fd = -1;
};

// Adds --cluster, --config, --log-level, --ready-fd, --help and --version to `options` and parses the
// command line into *vm (notified). Returns the exit code when the program is to end now: 0 after --help
// and --version, 2 after a mistake, which it has explained on stderr.
std::optional<int> ParseDaemonOptions(int argc, char** argv, std::string_view program,
                                      boost::program_options::options_description options, DaemonOptions* common,
                                      boost::program_options::variables_map* vm);

// True when the user gave this option on the command line: it wins over the configuration file.
bool Given(const boost::program_options::variables_map& vm, const std::string& name);

// Writes "ready\n" to ready_fd and closes it (unless < 0), and tells systemd.
void NotifyReady(int ready_fd);

// Blocks SIGINT and SIGTERM (and ignores SIGPIPE) for this thread and those it starts.
class SignalWaiter {
 public:
  SignalWaiter();
  ~SignalWaiter();
  SignalWaiter(const SignalWaiter&) = delete;
  SignalWaiter& operator=(const SignalWaiter&) = delete;

  int fd() const { return fd_; }  // readable when a signal has come, for epoll
  int Wait();                     // the signal's number

 private:
  int fd_;
};

}  // namespace weft
