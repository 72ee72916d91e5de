// SPDX-License-Identifier: MIT
//
// weftctl key and version: what concerns this host.
#include <array>
#include <optional>

#include <nlohmann/json.hpp>

#include "userland/base/daemon.h"
#include "userland/base/key.h"
#include "userland/ctl/command.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

// The key itself is never shown.
void PrintKey(const Context& context, const std::string& path, const std::vector<uint8_t>& key) {
  std::string fingerprint = KeyFingerprint(key);
  context.Print(fmt::format("{}: fingerprint {}\n", path, fingerprint), {{"file", path}, {"fingerprint", fingerprint}});
}

Status ShowKey(const Context& context, const po::variables_map& vm) {
  std::string path = Command::Argument(vm);
  Result<std::vector<uint8_t>> key = LoadClusterKey(path);
  if (!key.ok()) return key.status();
  PrintKey(context, path, *key);
  return {};
}

Status GenerateKey(const Context& context, const po::variables_map& vm) {
  if (Status s = GenerateClusterKey(Command::Argument(vm)); !s.ok()) return s;
  return ShowKey(context, vm);
}

Status ShowVersion(const Context& context, const po::variables_map&) {
  Result<idl::Version> server = context.admin()->Version();
  // Without a server that somebody named, weftctl's own version is the answer.
  if (!server.ok() && context.meta_given) return server.status();
  std::string text = fmt::format("weftctl {}\n", kSoftwareVersion);
  nlohmann::ordered_json json = {{"weftctl", kSoftwareVersion}, {"server", nullptr}};
  if (server.ok()) {
    text += fmt::format("server  {} at {}, protocol {} (serves {} and later)\n", server->software,
                        context.meta.ToString(), server->protocol, server->protocol_min);
    json["server"] = {{"address", context.meta.ToString()},
                      {"software", server->software},
                      {"protocol", server->protocol},
                      {"protocol_min", server->protocol_min}};
  }
  context.Print(text, json);
  return {};
}

constexpr std::array kCommands = {
    Command{"key generate", "FILE", "write a new cluster key; copy it to every host", nullptr, GenerateKey},
    Command{"key show", "FILE", "the key's fingerprint, to compare hosts", nullptr, ShowKey},
    Command{"version", "", "of weftctl and of the metadata server", nullptr, ShowVersion},
};

}  // namespace

std::span<const Command> HostCommands() { return kCommands; }

}  // namespace weft::ctl
