// SPDX-License-Identifier: MIT
//
// weftctl nvme: what storage nodes offer.
#include <array>

#include <nlohmann/json.hpp>

#include "userland/ctl/command.h"
#include "userland/ctl/table.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;
using Json = nlohmann::ordered_json;

void DiscoverOptions(po::options_description_easy_init options) {
  options("transport", po::value<std::string>()->default_value("rdma"), "rdma or tcp");
}

Result<nvmeof::Endpoint> EndpointOf(const po::variables_map& vm) {
  const std::string& transport = vm["transport"].as<std::string>();
  for (nvmeof::Transport known : {nvmeof::Transport::kRdma, nvmeof::Transport::kTcp}) {
    if (transport != nvmeof::ToString(known)) continue;
    // As nvme-cli: a discovery controller of its own has a port of its own for TCP alone.
    uint16_t port = known == nvmeof::Transport::kTcp ? nvmeof::kDiscoveryPortTcp : nvmeof::kPortDefault;
    Result<Address> address = ParseAddress(Command::Argument(vm), port);
    if (!address.ok()) return address.status();
    return nvmeof::Endpoint{known, address->host, address->port};
  }
  return Error(EINVAL, "transport '{}' is neither rdma nor tcp", transport);
}

Status Discover(const Context& context, const po::variables_map& vm) {
  Result<nvmeof::Endpoint> endpoint = EndpointOf(vm);
  if (!endpoint.ok()) return endpoint.status();
  agent::Settings settings;
  if (Status s = context.Settings(&settings); !s.ok()) return s;
  Result<nvmeof::HostSettings> host = agent::NvmeHost(settings);
  if (!host.ok()) return host.status();
  auto entries = context.world.make_fabric()->Discover(*endpoint, *host);
  if (!entries.ok()) return entries.status();
  Table table({{"KIND"}, {"URI"}});
  Json json = Json::array();
  for (const nvmeof::DiscoveryEntry& entry : *entries) {
    std::string uri = nvmeof::Uri{entry.endpoint, entry.nqn}.ToString();
    table.Add({entry.kind, uri});
    json.push_back({{"kind", entry.kind}, {"uri", uri}, {"nqn", entry.nqn}});
  }
  context.Print(
      entries->empty() ? fmt::format("{} offers nothing to this host\n", endpoint->ToString()) : table.ToString(),
      json);
  return {};
}

constexpr std::array kCommands = {
    Command{"nvme discover", "ADDR", "what the NVMe-oF discovery controller at ADDR[:PORT] offers to this host",
            DiscoverOptions, Discover},
};

}  // namespace

std::span<const Command> NvmeCommands() { return kCommands; }

}  // namespace weft::ctl
