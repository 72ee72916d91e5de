// SPDX-License-Identifier: MIT
//
// weftctl target: members of the pool come and go.
#include <algorithm>
#include <array>
#include <cerrno>

#include <nlohmann/json.hpp>

#include "userland/base/config.h"
#include "userland/ctl/command.h"
#include "userland/ctl/pool_view.h"
#include "userland/ctl/pool_wait.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

Result<idl::TargetInfo> Find(const Result<idl::PoolStatus>& pool, const std::string& name) {
  if (!pool.ok()) return pool.status();
  auto it = std::ranges::find(pool->targets, name, &idl::TargetInfo::name);
  if (it != pool->targets.end()) return *it;
  return Error(ENOENT, "no target is named '{}'; `weftctl target list` shows those that have registered", name);
}

Status List(const Context& context, const po::variables_map&) {
  Result<idl::PoolStatus> pool = context.admin()->PoolStatus();
  if (!pool.ok()) return pool.status();
  context.Print(TargetsText(pool->targets), TargetsJson(pool->targets));
  return {};
}

Status Show(const Context& context, const po::variables_map& vm) {
  Result<idl::TargetInfo> target = Find(context.admin()->PoolStatus(), Command::Argument(vm));
  if (!target.ok()) return target.status();
  context.Print(TargetText(*target), TargetJson(*target));
  return {};
}

Status Add(const Context& context, const po::variables_map& vm) {
  std::string name = Command::Argument(vm);
  auto admin = context.admin();
  if (Result<idl::PoolStatus> added = admin->AddTarget(name); !added.ok()) return added.status();
  Result<idl::TargetInfo> target = Find(AwaitJoined(admin.get(), context.world.clock), name);
  if (!target.ok()) return target.status();
  context.Print(fmt::format("target {} is part of the pool; `weftctl pool rebalance` moves data to it\n", name),
                TargetJson(*target));
  return {};
}

void DrainOptions(po::options_description_easy_init options) {
  options("cancel", po::bool_switch(), "it stays in the pool after all; what has moved does not come back");
}

Status Drain(const Context& context, const po::variables_map& vm) {
  std::string name = Command::Argument(vm);
  bool cancel = vm["cancel"].as<bool>();
  Result<idl::TargetInfo> target = Find(context.admin()->DrainTarget(name, cancel), name);
  if (!target.ok()) return target.status();
  std::string text = cancel ? fmt::format("target {} is no longer drained\n", name)
                            : fmt::format(
                                  "target {} is drained, {} move away: `weftctl pool wait` returns when they "
                                  "have, then `weftctl target remove {}`\n",
                                  name, FormatBytes(target->used_bytes), name);
  context.Print(text, TargetJson(*target));
  return {};
}

void RemoveOptions(po::options_description_easy_init options) {
  options("lost", po::bool_switch(), "it is down and will not come back: rebuild what it held from other copies");
}

Status Remove(const Context& context, const po::variables_map& vm) {
  std::string name = Command::Argument(vm);
  Result<idl::PoolStatus> pool = context.admin()->RemoveTarget(name, vm["lost"].as<bool>());
  if (!pool.ok()) return pool.status();
  std::string text = fmt::format("target {} is no longer part of the pool\n", name);
  if (pool->chunks_lost > 0) {
    text += fmt::format("{} chunks have no copy in sync any more; `weftctl fsck` names the files\n", pool->chunks_lost);
  }
  context.Print(text, {{"removed", name}, {"chunks_lost", pool->chunks_lost}});
  return {};
}

constexpr std::array kCommands = {
    Command{"target list", "", "the storage targets", nullptr, List},
    Command{"target show", "NAME", "all about one target", nullptr, Show},
    Command{"target add", "NAME", "take a target that has registered into the pool", nullptr, Add},
    Command{"target drain", "NAME", "move everything away from a target, online", DrainOptions, Drain},
    Command{"target remove", "NAME", "take a target that is drained or lost out of the pool", RemoveOptions, Remove},
};

}  // namespace

std::span<const Command> TargetCommands() { return kCommands; }

}  // namespace weft::ctl
