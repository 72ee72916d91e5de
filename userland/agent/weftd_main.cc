// SPDX-License-Identifier: MIT
//
// weftd: the agent of one cluster on this host. It moves the data of the mount between the kernel and
// the targets; see agent.h.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <iostream>
#include <thread>

#include "nvmeof/host.h"
#include "rdma/block_initiator.h"
#include "userland/agent/agent.h"
#include "userland/agent/process.h"
#include "userland/agent/settings.h"
#include "userland/balancer/balancer.h"
#include "userland/base/config.h"
#include "userland/base/daemon.h"
#include "userland/base/key.h"
#include "userland/base/log.h"

namespace weft::agent {
namespace {

namespace po = boost::program_options;

constexpr std::chrono::milliseconds kStopGrace{5000};
constexpr std::chrono::hours kDrainMax{24 * 7};  // what the wire has room for

struct CommandLine {
  DaemonOptions common;
  Settings settings;  // of the options that were given
  std::string pool;
  po::variables_map given;
};

po::options_description Options(CommandLine* line) {
  Settings& s = line->settings;
  po::options_description options("weftd: the weftfs agent of one cluster on this host");
  options.add_options()("meta", po::value(&s.meta), "metadata server, HOST:PORT")(
      "key", po::value(&s.key), "file with the cluster key")("zone", po::value(&s.zone),
                                                             "failure domain of this host, such as a rack")(
      "queues", po::value(&s.queues), "threads for block requests (default: one for each 4 CPUs)")(
      "pool", po::value(&line->pool), "size of the kernel's buffer pool, such as 64MiB (default: the kernel's choice)")(
      "depth", po::value(&s.depth), "unfinished requests, a power of two (default: the kernel's choice)")(
      "spin-us", po::value(&s.spin_us),
      fmt::format("microseconds to look for more work before sleeping (default: {})", SpinTime({}).count()).c_str())(
      "detect-ms", po::value(&s.detect_ms), "a target out of reach for so long is down (default 5000)")(
      "meta-connections", po::value(&s.meta_connections), "connections to the metadata server (default 2)");
  return options;
}

// The file's settings, with those of the command line over them.
Result<Settings> Combine(const CommandLine& line) {
  Settings settings;
  std::string path = line.common.config_path;
  if (path.empty() && std::filesystem::exists(DefaultConfigPath(line.common.cluster))) {
    path = DefaultConfigPath(line.common.cluster);
  }
  if (!path.empty()) {
    if (Status s = ReadSettings(path, &settings); !s.ok()) return s;
  }
  const Settings& given = line.settings;
  if (Given(line.given, "meta")) settings.meta = given.meta;
  if (Given(line.given, "key")) settings.key = given.key;
  if (Given(line.given, "zone")) settings.zone = given.zone;
  if (Given(line.given, "log-level")) settings.log_level = line.common.log_level;
  if (Given(line.given, "queues")) settings.queues = given.queues;
  if (Given(line.given, "depth")) settings.depth = given.depth;
  if (Given(line.given, "spin-us")) settings.spin_us = given.spin_us;
  if (Given(line.given, "detect-ms")) settings.detect_ms = given.detect_ms;
  if (Given(line.given, "meta-connections")) settings.meta_connections = given.meta_connections;
  if (Given(line.given, "pool")) {
    Result<uint64_t> bytes = ParseBytes(line.pool);
    if (!bytes.ok()) return bytes.status().Annotate("--pool");
    settings.pool_bytes = *bytes;
  }
  if (Status s = CheckSettings(settings); !s.ok()) return s;
  return settings;
}

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "?";
}

void WaitForEither(int fd, int other_fd) {
  pollfd fds[] = {{.fd = fd, .events = POLLIN, .revents = 0}, {.fd = other_fd, .events = POLLIN, .revents = 0}};
  while (poll(fds, std::size(fds), -1) < 0 && errno == EINTR) {
  }
}

// After a reboot the kernel has its built-in policy only. The file system works with that: what cannot be
// restored is said, and no reason to stay out of service.
void RestoreBalancer() {
  balancer::Sysfs sysfs;
  std::unique_ptr<balancer::BpfHost> host = balancer::MakeBpfHost();
  Result<balancer::Change> change = balancer::Balancer(*host, sysfs).Restore();
  if (!change.ok()) return LogWarning("the chosen balancer policy is not in force: {}", change.status().message());
  if (change->before != change->after) LogInfo("balancer: {} -> {}, as chosen", change->before, change->after);
}

Status Serve(const CommandLine& line, const Settings& settings, SignalWaiter* signals) {
  Result<Address> meta = ParseAddress(settings.meta, kMetaPort);
  if (!meta.ok()) return meta.status().Annotate("meta");
  Result<std::vector<uint8_t>> key = LoadClusterKey(settings.key);
  if (!key.ok()) return key.status();
  PrepareForWriteback();

  AgentOptions options;
  options.attach = {.cluster = line.common.cluster,
                    .queues = QueueCount(settings),
                    .depth = static_cast<uint32_t>(settings.depth),
                    .pool_bytes = settings.pool_bytes};
  options.meta = *meta;
  options.host = HostName();
  options.zone = settings.zone;
  options.meta_connections = static_cast<size_t>(settings.meta_connections);
  options.spin = SpinTime(settings);
  options.spin_for_devices = SpinsForDevices(settings);
  options.detect = std::chrono::milliseconds(settings.detect_ms);
  options.gateway.cluster_key = *key;
  options.gateway.rdma_address = settings.rdma_address;
  Result<nvmeof::HostSettings> nvme = NvmeHost(settings);
  if (!nvme.ok()) return nvme.status();
  options.gateway.host = *nvme;
  options.nvme_drain = std::min<std::chrono::milliseconds>(nvmeof::DrainTime(*nvme), kDrainMax);
  // Hosts without one use no NVMe-oF targets.
  if (auto identity = nvmeof::IdentifyHost(*nvme); identity.ok()) options.hostnqn = identity->hostnqn;
  auto make_initiator = [&](std::span<std::byte> pool, uint64_t session) {
    rdma::InitiatorOptions initiator;
    initiator.memory = pool.data();
    initiator.memory_bytes = pool.size();
    initiator.session = session;
    initiator.cluster_key = *key;
    initiator.detect_ms = static_cast<uint32_t>(settings.detect_ms);
    return rdma::BlockInitiator::Create(rdma::RealVerbs(), std::move(initiator));
  };
  auto agent = Agent::Attach(channel::RealDevice(), make_initiator, options);
  if (!agent.ok()) return agent.status();
  RestoreBalancer();
  // Starting may wait for the metadata server for as long as it takes; a signal must get through.
  Status started;
  int started_fd = eventfd(0, EFD_CLOEXEC);
  if (started_fd < 0) return Status::Errno(errno, "eventfd");
  std::thread starter([&] {
    started = (*agent)->Start();
    if (started.ok()) NotifyReady(line.common.ready_fd);
    eventfd_write(started_fd, 1);
  });
  WaitForEither(signals->fd(), started_fd);
  (*agent)->Interrupt();
  starter.join();
  close(started_fd);
  if (!started.ok() && started.code() != ECANCELED) return started;
  signals->Wait();
  LogInfo("stopping");
  (*agent)->Stop(kStopGrace);
  return {};
}

int Main(int argc, char** argv) {
  SignalWaiter signals;
  CommandLine line;
  if (auto exit_code = ParseDaemonOptions(argc, argv, "weftd", Options(&line), &line.common, &line.given)) {
    return *exit_code;
  }
  Result<Settings> settings = Combine(line);
  if (!settings.ok()) {
    std::cerr << "weftd: " << settings.status().message() << std::endl;
    return 2;
  }
  if (Status s = InitLog("weftd", settings->log_level); !s.ok()) {
    std::cerr << "weftd: " << s.message() << std::endl;
    return 2;
  }
  if (Status s = Serve(line, *settings, &signals); !s.ok()) {
    LogError("{}", s.message());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace weft::agent

int main(int argc, char** argv) { return weft::agent::Main(argc, argv); }
