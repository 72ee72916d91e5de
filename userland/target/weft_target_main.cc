// SPDX-License-Identifier: MIT
//
// weft-target: serves one block device or file to the clients of a cluster. The main thread waits for a signal;
// all else is TargetServer.
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <thread>

#include "userland/base/config.h"
#include "userland/base/key.h"
#include "userland/base/log.h"
#include "userland/target/incarnation.h"
#include "userland/target/settings.h"
#include "userland/target/target_server.h"

namespace weft::target {
namespace {

constexpr std::chrono::microseconds kSpin{50};
constexpr unsigned kSmallMachineCpus = 2;  // there a thread that looks for work keeps others from making it

std::chrono::microseconds SpinTime(const Settings& settings) {
  if (settings.spin_us >= 0) return std::chrono::microseconds(settings.spin_us);
  return std::thread::hardware_concurrency() <= kSmallMachineCpus ? std::chrono::microseconds(0) : kSpin;
}

TargetServerOptions ServerOptions(const Settings& settings, std::vector<uint8_t> key, uint64_t incarnation) {
  return {.cluster = settings.common.cluster,
          .name = settings.name,
          .backing = {.path = settings.backing, .create_bytes = settings.size_bytes, .force = settings.force},
          .write_cache = false,
          .translate = {},
          .cluster_key = std::move(key),
          .incarnation = incarnation,
          .listen = settings.listen,
          .address = settings.address,
          .meta = settings.meta,
          .zone = settings.zone,
          .weight = static_cast<uint32_t>(settings.weight),
          .buffer_bytes = settings.buffer_bytes,
          .depth = static_cast<uint32_t>(settings.depth),
          .depth_total = static_cast<uint32_t>(settings.depth_total),
          .spin = SpinTime(settings),
          .nvme = nullptr,
          .add_to_report = {}};
}

// Until a signal, or until the metadata server has refused this target for good: the reason.
Status Serve(const Settings& settings, SignalWaiter* signals) {
  Result<std::vector<uint8_t>> key = LoadClusterKey(settings.key);
  if (!key.ok()) return key.status();
  Result<uint64_t> incarnation = ReadIncarnation();
  if (!incarnation.ok()) return incarnation.status();
  auto server = TargetServer::Open(ServerOptions(settings, *std::move(key), *incarnation));
  if (!server.ok()) return server.status();
  const Backing& backing = (*server)->backing();
  LogInfo("target '{}' serves {} ({}) on {}", settings.name, settings.backing, FormatBytes(backing.capacity_bytes()),
          Address{settings.listen.host, (*server)->port()}.ToString());
  // A member of a pool serves its clients whether weft-meta is there or not; a new target is of use to
  // nobody before it is registered.
  bool member = !IsNil(backing.cluster());
  if (member) NotifyReady(settings.common.ready_fd);
  Status refused;
  (*server)->Link({.on_registered =
                       [&settings, member] {
                         if (!member) NotifyReady(settings.common.ready_fd);
                       },
                   .on_refused =
                       [&refused](const Status& why) {
                         refused = why;  // the signal makes this thread wait for its end
                         kill(getpid(), SIGTERM);
                       }});
  signals->Wait();
  LogInfo("stopping");
  (*server)->Unlink();
  return refused;
}

int Main(int argc, char** argv) {
  SignalWaiter signals;
  Settings settings;
  if (auto exit_code = ParseSettings(argc, argv, &settings)) return *exit_code;
  if (Status s = InitLog("weft-target", settings.common.log_level); !s.ok()) {
    std::cerr << "weft-target: " << s.message() << std::endl;
    return 2;
  }
  if (Status s = Serve(settings, &signals); !s.ok()) {
    LogError("{}", s.message());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace weft::target

int main(int argc, char** argv) { return weft::target::Main(argc, argv); }
