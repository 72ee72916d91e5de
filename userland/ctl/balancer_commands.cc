// SPDX-License-Identifier: MIT
//
// weftctl balancer: the policy of this host's kernel module.
#include <array>
#include <cerrno>

#include <nlohmann/json.hpp>

#include "userland/balancer/balancer.h"
#include "userland/balancer/policies.h"
#include "userland/ctl/balancer_view.h"
#include "userland/ctl/command.h"
#include "userland/ctl/simulate_commands.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

Status List(const Context& context, const po::variables_map&) {
  std::optional<std::string> active;
  Result<balancer::BalancerState> state = context.world.sysfs.Balancer();
  if (state.ok()) {
    active = state->policy;
  } else if (state.status().code() != ENODEV) {
    return state.status();
  }
  context.Print(PoliciesText(active), PoliciesJson(active));
  return {};
}

Status Show(const Context& context, const po::variables_map&) {
  Result<balancer::BalancerState> state = context.world.sysfs.Balancer();
  if (!state.ok()) return state.status();
  context.Print(StateText(*state), StateJson(*state));
  return {};
}

Status Set(const Context& context, const po::variables_map& vm) {
  std::string policy = Command::Argument(vm);
  std::unique_ptr<balancer::BpfHost> host = context.world.make_bpf_host();
  Result<balancer::Change> change =
      balancer::Balancer(*host, context.world.sysfs, balancer::ChoiceStore(context.world.balancer_dir)).Set(policy);
  if (!change.ok()) return change.status();
  if (change->after == balancer::kBuiltinPolicy && policy != balancer::kBuiltinPolicy) {
    return Error(EPROTO, "policy {} was attached, and detached at once for illegal answers; the kernel log has more",
                 policy);
  }
  context.Print(fmt::format("balancer: {} -> {}\n", change->before, change->after),
                {{"before", change->before}, {"after", change->after}});
  return {};
}

Status Stats(const Context& context, const po::variables_map&) {
  Result<std::vector<balancer::TargetCounters>> targets = context.world.sysfs.Targets();
  if (!targets.ok()) return targets.status();
  context.Print(CountersText(*targets), CountersJson(*targets));
  return {};
}

constexpr std::array kCommands = {
    Command{"balancer list", "", "the policies that can be set; * is in force", nullptr, List},
    Command{"balancer show", "", "the policy in force and its counters", nullptr, Show},
    Command{"balancer set", "POLICY", "swap the policy under load: a name from the list, or ./MINE.bpf.o", nullptr,
            Set},
    Command{"balancer stats", "", "requests, bytes and latency of each target", nullptr, Stats},
    Command{"balancer simulate", "TRACE POLICY...", "what a policy would make of a trace, without loading it",
            AddSimulateOptions, Simulate},
    Command{"trace record", "FILE", "write down this host's block requests, for balancer simulate", AddRecordOptions,
            RecordTrace},
};

}  // namespace

std::span<const Command> BalancerCommands() { return kCommands; }

}  // namespace weft::ctl
