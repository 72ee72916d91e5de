// SPDX-License-Identifier: MIT
//
// The balancer and the counters of the targets as weftctl shows them. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "userland/balancer/sysfs.h"

namespace weft::ctl {

// active: name of the policy in force; nullopt: the module is not loaded.
std::string PoliciesText(const std::optional<std::string>& active);
nlohmann::ordered_json PoliciesJson(const std::optional<std::string>& active);

std::string StateText(const balancer::BalancerState& state);
nlohmann::ordered_json StateJson(const balancer::BalancerState& state);

std::string CountersText(const std::vector<balancer::TargetCounters>& targets);
nlohmann::ordered_json CountersJson(const std::vector<balancer::TargetCounters>& targets);

}  // namespace weft::ctl
