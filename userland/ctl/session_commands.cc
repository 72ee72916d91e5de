// SPDX-License-Identifier: MIT
//
// weftctl session: the clients.
#include <array>
#include <cerrno>
#include <charconv>

#include <nlohmann/json.hpp>

#include "userland/ctl/command.h"
#include "userland/ctl/pool_view.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

Status ListSessions(const Context& context, const po::variables_map&) {
  Result<idl::PoolStatus> pool = context.admin()->PoolStatus();
  if (!pool.ok()) return pool.status();
  context.Print(SessionsText(pool->sessions), SessionsJson(pool->sessions));
  return {};
}

Status EvictSession(const Context& context, const po::variables_map& vm) {
  std::string text = Command::Argument(vm);
  int64_t id = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size() || id <= 0) {
    return Error(EINVAL, "'{}' is not the id of a session; `weftctl session list` shows them", text);
  }
  if (Status s = context.admin()->EvictSession(id); !s.ok()) return s;
  context.Print(fmt::format("session {} is ended\n", id), {{"evicted", id}});
  return {};
}

constexpr std::array kCommands = {
    Command{"session list", "", "the clients that have the cluster mounted", nullptr, ListSessions},
    Command{"session evict", "ID", "end the session of a client that will not come back", nullptr, EvictSession},
};

}  // namespace

std::span<const Command> SessionCommands() { return kCommands; }

}  // namespace weft::ctl
