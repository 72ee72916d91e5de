// SPDX-License-Identifier: MIT
//
// weft-meta: the metadata server. Opens the store, starts the engine, serves until a signal comes or the
// store fails. See state_machine.h for what happens to a request.
#include <cerrno>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include "userland/base/log.h"
#include "userland/meta/engine.h"
#include "userland/meta/fencer.h"
#include "userland/meta/services.h"
#include "userland/meta/settings.h"
#include "userland/rpc/limits.h"
#include "userland/rpc/server.h"

namespace weft {
namespace {

Status MakeFolder(const std::string& path) {
  std::error_code error;
  bool made = std::filesystem::create_directories(path, error);
  if (error) return Error(error.value(), "--data {}: {}", path, error.message());
  if (made) std::filesystem::permissions(path, std::filesystem::perms::owner_all, error);
  if (access(path.c_str(), W_OK) != 0) return Status::Errno(errno, fmt::format("--data {}", path));
  return {};
}

// Every connection takes a descriptor, and so does every file of the store.
void RaiseFilesMax() {
  constexpr rlim_t kWanted = kConnectionsMax + 4096;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kWanted) return;
  limit.rlim_cur = std::min(limit.rlim_max, kWanted);
  setrlimit(RLIMIT_NOFILE, &limit);  // else connections wait when there are no more: see RpcServer
}

// Serves until SIGTERM or SIGINT (success) or until the store fails.
Status Serve(SignalWaiter* signals, const MetaSettings& settings) {
  if (Status status = MakeFolder(settings.data); !status.ok()) return status;
  RaiseFilesMax();
  Result<std::unique_ptr<RocksStore>> store = RocksStore::Open(settings.data, settings.rocks);
  if (!store.ok()) return store.status();
  auto machine = StateMachine::Open(store->get(), settings.meta, Engine::SystemClock());
  if (!machine.ok()) return machine.status().Annotate(settings.data);

  int failed_fd = eventfd(0, EFD_CLOEXEC);
  if (failed_fd < 0) return Status::Errno(errno, "eventfd");
  Status failure;  // written before failed_fd becomes readable
  Engine engine(*std::move(machine), Engine::SystemClock, [&](const Status& status) {
    failure = status;
    eventfd_write(failed_fd, 1);
  });
  std::optional<Fencer> fencer;
  if (!settings.fence_command.empty()) fencer.emplace(&engine, settings.fence_command);
  auto server = RpcServer::Listen(settings.listen, MakeMetaProcessor(&engine, settings.meta.lease_ms));
  if (!server.ok()) {
    engine.StopEvents();
    engine.Stop();
    close(failed_fd);
    return server.status();
  }
  LogInfo("cluster '{}': serving on {}", settings.meta.cluster, (*server)->address().ToString());
  NotifyReady(settings.common.ready_fd);

  pollfd waiters[] = {{signals->fd(), POLLIN, 0}, {failed_fd, POLLIN, 0}};
  while (poll(waiters, 2, -1) < 0) {
  }
  if (waiters[1].revents == 0) LogInfo("stopping");
  engine.StopEvents();
  (*server)->Stop();
  engine.Stop();
  close(failed_fd);
  return failure;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  weft::SignalWaiter signals;
  weft::MetaSettings settings;
  if (auto exit_code = weft::ReadMetaSettings(argc, argv, &settings)) return *exit_code;
  if (weft::Status status = weft::InitLog("weft-meta", settings.common.log_level); !status.ok()) {
    std::cerr << "weft-meta: --log-level: " << status.message() << std::endl;
    return 2;
  }
  weft::Status status = weft::Serve(&signals, settings);
  if (status.ok()) return 0;
  weft::LogError("{}", status.message());
  return 1;
}
