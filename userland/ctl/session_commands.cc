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
  if (Status s = context.admin()->EvictSession(id, vm["host-is-off"].as<bool>()); !s.ok()) return s;
  Result<idl::PoolStatus> pool = context.admin()->PoolStatus();
  if (!pool.ok()) return pool.status();
  std::string more;
  for (const idl::SessionInfo& session : pool->sessions) {
    if (session.id == id) more = "; others are let in when " + SessionEndText(session);
  }
  context.Print(fmt::format("session {} is ended{}\n", id, more), {{"evicted", id}, {"gone", more.empty()}});
  return {};
}

void EvictOptions(po::options_description_easy_init options) {
  options("host-is-off", po::bool_switch(),
          "its host has no power: do not wait until NVMe-oF targets can get nothing of it any more");
}

constexpr std::array kCommands = {
    Command{"session list", "", "the clients that have the cluster mounted", nullptr, ListSessions},
    Command{"session evict", "ID", "end the session of a client that will not come back", EvictOptions, EvictSession},
};

}  // namespace

std::span<const Command> SessionCommands() { return kCommands; }

}  // namespace weft::ctl
