// SPDX-License-Identifier: MIT
//
// Results of the balancer's simulator as weftctl shows them. Pure functions.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "userland/balancer/simulator.h"

namespace weft::ctl {

// What was replayed, and what is missing from it.
std::string TraceText(const balancer::Trace& trace, uint32_t depth);
// Policies side by side, then the load of each target.
std::string SimulationText(const std::vector<balancer::SimulationResult>& results);
// Both: {"trace": {...}, "policies": [...]}.
nlohmann::ordered_json SimulationJson(const balancer::Trace& trace, uint32_t depth,
                                      const std::vector<balancer::SimulationResult>& results);

}  // namespace weft::ctl
