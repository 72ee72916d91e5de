// SPDX-License-Identifier: MIT
//
// weftctl target: members of the pool come and go.
#include <algorithm>
#include <array>
#include <cerrno>

#include <nlohmann/json.hpp>

#include "userland/agent/settings.h"
#include "userland/base/config.h"
#include "userland/ctl/command.h"
#include "userland/ctl/nvme_target.h"
#include "userland/ctl/pool_view.h"
#include "userland/ctl/pool_wait.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

constexpr int64_t kWeightDefault = 100;
constexpr int64_t kWeightMax = 10'000;

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

void AddOptions(po::options_description_easy_init options) {
  options("name", po::value<std::string>()->value_name("NAME"), "of an NVMe-oF target (default: from its label)")(
      "zone", po::value<std::string>()->value_name("ZONE"), "failure domain of an NVMe-oF target")(
      "weight", po::value<int64_t>()->default_value(kWeightDefault), "of an NVMe-oF target, 100 is the norm")(
      "data-path", po::value<std::string>()->value_name("PATH"),
      "of an NVMe-oF target: agent, direct or auto (default: auto, direct where the namespace is visible)")(
      "force", po::bool_switch(), "take an NVMe-oF namespace that holds something, and destroy that");
}

Result<idl::DataPath::type> ParseDataPath(const std::string& text) {
  if (text == "auto") return idl::DataPath::AUTO;
  if (text == "agent") return idl::DataPath::AGENT;
  if (text == "direct") return idl::DataPath::DIRECT;
  return Error(EINVAL, "data path '{}' is none of auto, agent, direct", text);
}

// How this host connects: its settings are those of weftd.
Result<nvmeof::HostSettings> HostSettings(const Context& context) {
  agent::Settings settings;
  if (Status s = context.Settings(&settings); !s.ok()) return s;
  return agent::NvmeHost(settings);
}

// What is not said of a target that is known stays as it is.
void KeepUnsaid(const po::variables_map& vm, const idl::PoolStatus& pool, idl::RegisterTargetArgs* args) {
  auto known = std::ranges::find(pool.targets, args->uuid, &idl::TargetInfo::uuid);
  if (known == pool.targets.end() || !known->__isset.nvme) return;
  if (vm.count("name") == 0) args->name = known->name;
  if (vm.count("zone") == 0) args->zone = known->zone;
  if (vm["weight"].defaulted()) args->weight = known->weight;
  if (vm.count("data-path") == 0) args->nvme.data_path = known->nvme.data_path;
}

Status AddNvme(const Context& context, const po::variables_map& vm) {
  NvmeTargetRequest request;
  Result<std::vector<nvmeof::Uri>> uris = ParsePaths(Command::Arguments(vm));
  if (!uris.ok()) return uris.status();
  request.uris = *uris;
  if (vm.count("name") > 0) request.name = vm["name"].as<std::string>();
  if (vm.count("zone") > 0) request.zone = vm["zone"].as<std::string>();
  request.weight = vm["weight"].as<int64_t>();
  if (request.weight < 1 || request.weight > kWeightMax)
    return Error(EINVAL, "--weight: {} is not 1 to {}", request.weight, kWeightMax);
  request.force = vm["force"].as<bool>();
  if (vm.count("data-path") > 0) {
    Result<idl::DataPath::type> path = ParseDataPath(vm["data-path"].as<std::string>());
    if (!path.ok()) return path.status();
    request.data_path = *path;
  }
  Result<nvmeof::HostSettings> host = HostSettings(context);
  if (!host.ok()) return host.status();
  auto admin = context.admin();
  Result<idl::PoolStatus> pool = admin->PoolStatus();
  if (!pool.ok()) return pool.status();
  request.cluster = pool->cluster;
  request.cluster_uuid = pool->cluster_uuid;
  request.bytes_min = static_cast<uint64_t>(pool->chunk_bytes);
  request.members = pool->targets;
  auto admit = [&](idl::RegisterTargetArgs* args) {
    KeepUnsaid(vm, *pool, args);
    return admin->CheckNvmeTarget(*args);
  };
  Result<idl::RegisterTargetArgs> args =
      PrepareNvmeTarget(context.world.make_fabric().get(), *host, request, context.world.open_reservation, admit);
  if (!args.ok()) return args.status();
  Result<idl::TargetInfo> target = Find(admin->AddNvmeTarget(*args), args->name);
  if (!target.ok()) return target.status();
  std::string text =
      target->id == 0
          ? fmt::format("target {} is known; `weftctl pool create` takes it into the pool\n", args->name)
          : fmt::format("target {} is part of the pool; `weftctl pool rebalance` moves data to it\n", args->name);
  context.Print(text, TargetJson(*target));
  return {};
}

Status Add(const Context& context, const po::variables_map& vm) {
  std::vector<std::string> arguments = Command::Arguments(vm);
  if (nvmeof::LooksLikeUri(arguments.front())) return AddNvme(context, vm);
  if (arguments.size() > 1) return Error(EINVAL, "'{}' is one argument too many: one target at a time", arguments[1]);
  std::string name = arguments.front();
  for (const char* option : {"name", "zone", "weight", "data-path", "force"}) {
    if (vm.count(option) > 0 && !vm[option].defaulted())
      return Error(EINVAL, "--{} is for NVMe-oF targets; '{}' says it of itself when it is started", option, name);
  }
  auto admin = context.admin();
  if (Result<idl::PoolStatus> added = admin->AddTarget(name); !added.ok()) return added.status();
  Result<idl::TargetInfo> target = Find(AwaitJoined(admin.get(), context.world.clock), name);
  if (!target.ok()) return target.status();
  context.Print(fmt::format("target {} is part of the pool; `weftctl pool rebalance` moves data to it\n", name),
                TargetJson(*target));
  return {};
}

void SetOptions(po::options_description_easy_init options) {
  options("data-path", po::value<std::string>()->required()->value_name("PATH"), "agent, direct or auto");
}

Status Set(const Context& context, const po::variables_map& vm) {
  std::string name = Command::Argument(vm);
  Result<idl::DataPath::type> path = ParseDataPath(vm["data-path"].as<std::string>());
  if (!path.ok()) return path.status();
  Result<idl::TargetInfo> target = Find(context.admin()->SetDataPath(name, *path), name);
  if (!target.ok()) return target.status();
  context.Print(fmt::format("target {}: data path {}\n", name, vm["data-path"].as<std::string>()), TargetJson(*target));
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
    Command{"target add", "TARGET...",
            "take a target into the pool: the name of one that has registered, or the paths to an NVMe-oF namespace, "
            "nvme+rdma://ADDR:PORT/NQN[?nsid=N] or nvme+tcp://...",
            AddOptions, Add},
    Command{"target set", "NAME", "how clients reach an NVMe-oF target", SetOptions, Set},
    Command{"target drain", "NAME", "move everything away from a target, online", DrainOptions, Drain},
    Command{"target remove", "NAME", "take a target that is drained or lost out of the pool", RemoveOptions, Remove},
};

}  // namespace

std::span<const Command> TargetCommands() { return kCommands; }

}  // namespace weft::ctl
