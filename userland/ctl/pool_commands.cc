// SPDX-License-Identifier: MIT
//
// weftctl pool: the pool as a whole.
#include <array>
#include <cerrno>

#include <nlohmann/json.hpp>

#include "kmod/uapi/weft.h"
#include "userland/base/config.h"
#include "userland/ctl/command.h"
#include "userland/ctl/pool_settings.h"
#include "userland/ctl/pool_view.h"
#include "userland/ctl/pool_wait.h"
#include "userland/ctl/table.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

constexpr uint64_t kChunkBytesMin = 1ull << 20;
constexpr uint64_t kChunkBytesMax = 4ull << 30;

Status Print(const Context& context, const Result<idl::PoolStatus>& pool) {
  if (!pool.ok()) return pool.status();
  context.Print(PoolText(*pool), PoolJson(*pool));
  return {};
}

void CreateOptions(po::options_description_easy_init options) {
  options  //
      ("copies", po::value<int>()->value_name("N"),
       "copies of each chunk, 1 to 4 (default: 2 if there are two targets)")  //
      ("chunk-size", po::value<std::string>()->value_name("SIZE"),            //
       "a power of two from 1 MiB to 4 GiB (default: 64 MiB)")                //
      ("target", po::value<std::vector<std::string>>()->value_name("NAME"),   //
       "a target of the pool; repeat for more (default: all that have registered)");
}

Status Create(const Context& context, const po::variables_map& vm) {
  idl::CreatePoolArgs args;
  if (vm.count("copies") > 0) {
    args.copies = vm["copies"].as<int>();
    if (args.copies < 1 || args.copies > WEFT_COPIES_MAX) {
      return Error(EINVAL, "--copies {} is not 1 to {}", args.copies, WEFT_COPIES_MAX);
    }
  }
  if (vm.count("chunk-size") > 0) {
    Result<uint64_t> bytes = ParseBytes(vm["chunk-size"].as<std::string>());
    if (!bytes.ok()) return bytes.status().Annotate("--chunk-size");
    if (*bytes < kChunkBytesMin || *bytes > kChunkBytesMax || (*bytes & (*bytes - 1)) != 0) {
      return Error(EINVAL, "--chunk-size {} is not a power of two from 1 MiB to 4 GiB",
                   vm["chunk-size"].as<std::string>());
    }
    args.chunk_bytes = static_cast<int64_t>(*bytes);
  }
  if (vm.count("target") > 0) args.targets = vm["target"].as<std::vector<std::string>>();
  auto admin = context.admin();
  if (Result<idl::PoolStatus> pool = admin->CreatePool(args); !pool.ok()) return pool.status();
  return Print(context, AwaitJoined(admin.get(), context.world.clock));
}

Status ShowPool(const Context& context, const po::variables_map&) {
  return Print(context, context.admin()->PoolStatus());
}

Status SetPool(const Context& context, const po::variables_map& vm) {
  std::vector<std::string> words = Command::Arguments(vm);
  Result<idl::PoolSettings> settings = ParsePoolSettings(words);
  if (!settings.ok()) return settings.status();
  return Print(context, context.admin()->SetPool(*settings));
}

void StopOptions(po::options_description_easy_init options) {
  options("stop", po::bool_switch(), "end it; what is done stays");
}

Status Rebalance(const Context& context, const po::variables_map& vm) {
  return Print(context, context.admin()->Rebalance(vm["stop"].as<bool>()));
}

Status Scrub(const Context& context, const po::variables_map& vm) {
  return Print(context, context.admin()->Scrub(vm["stop"].as<bool>()));
}

void WaitOptions(po::options_description_easy_init options) {
  options  //
      ("timeout", po::value<std::string>()->value_name("DURATION"), "such as 90s or 15min (default: for ever)")(
          "scrub", po::bool_switch(), "also until the scrub that runs has ended");
}

Status Wait(const Context& context, const po::variables_map& vm) {
  int64_t timeout_ms = -1;
  if (vm.count("timeout") > 0) {
    Result<int64_t> seconds = ParseDuration(vm["timeout"].as<std::string>());
    if (!seconds.ok()) return seconds.status().Annotate("--timeout");
    timeout_ms = *seconds * 1000;
  }
  bool scrub = vm["scrub"].as<bool>();
  auto admin = context.admin();
  // A server that is not there at all is no reason to wait.
  if (Result<idl::PoolStatus> first = admin->PoolStatus(); !first.ok()) return first.status();
  Result<idl::PoolStatus> pool = AwaitPool(admin.get(), context.world.clock, timeout_ms,
                                           [&](const idl::PoolStatus& now) { return Unrest(now, scrub).empty(); });
  if (!pool.ok()) return pool.status();
  if (std::string unrest = Unrest(*pool, scrub); !unrest.empty()) {
    return Error(ETIMEDOUT, "not at rest after {}: {}", FormatAge(timeout_ms), unrest);
  }
  return Print(context, pool);
}

constexpr std::array kCommands = {
    Command{"pool create", "", "form the pool from the targets that have registered", CreateOptions, Create},
    Command{"pool status", "", "space, chunks, targets, tasks and sessions", nullptr, ShowPool},
    Command{"pool set", "KEY=VALUE...",
            "settings, also under load: copies=N, resync-rate=SIZE, scrub-rate=SIZE, scrub-interval=DURATION", nullptr,
            SetPool},
    Command{"pool rebalance", "", "even out how full the targets are", StopOptions, Rebalance},
    Command{"pool scrub", "", "verify every copy, from the start of the pool", StopOptions, Scrub},
    Command{
        "pool wait", "",
        "return when no copy is missing or being made or moved; waits as long as there are too few targets for them",
        WaitOptions, Wait},
};

}  // namespace

std::span<const Command> PoolCommands() { return kCommands; }

}  // namespace weft::ctl
