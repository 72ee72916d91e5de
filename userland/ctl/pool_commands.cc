// SPDX-License-Identifier: MIT
//
// weftctl pool, target and session: what the metadata server knows.
#include <array>
#include <cerrno>
#include <charconv>

#include <nlohmann/json.hpp>

#include "kmod/uapi/weft.h"
#include "userland/base/config.h"
#include "userland/ctl/command.h"
#include "userland/ctl/pool_view.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

constexpr uint64_t kChunkBytesMin = 1ull << 20;
constexpr uint64_t kChunkBytesMax = 4ull << 30;

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
  Result<idl::PoolStatus> pool = context.admin()->CreatePool(args);
  if (!pool.ok()) return pool.status();
  context.Print(PoolText(*pool), PoolJson(*pool));
  return {};
}

Status ShowPool(const Context& context, const po::variables_map&) {
  Result<idl::PoolStatus> pool = context.admin()->PoolStatus();
  if (!pool.ok()) return pool.status();
  context.Print(PoolText(*pool), PoolJson(*pool));
  return {};
}

Status ListTargets(const Context& context, const po::variables_map&) {
  Result<idl::PoolStatus> pool = context.admin()->PoolStatus();
  if (!pool.ok()) return pool.status();
  context.Print(TargetsText(pool->targets), TargetsJson(pool->targets));
  return {};
}

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
    Command{"pool create", "", "form the pool from the targets that have registered", CreateOptions, Create},
    Command{"pool status", "", "space, chunks, targets and sessions", nullptr, ShowPool},
    Command{"target list", "", "the storage targets", nullptr, ListTargets},
    Command{"session list", "", "the clients that have the cluster mounted", nullptr, ListSessions},
    Command{"session evict", "ID", "end the session of a client that will not come back", nullptr, EvictSession},
};

}  // namespace

std::span<const Command> PoolCommands() { return kCommands; }

}  // namespace weft::ctl
