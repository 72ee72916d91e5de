// SPDX-License-Identifier: MIT
//
// The helper functions of BPF that the simulator has. Constant data; any thread.
#pragma once

#include <cstdint>
#include <string>

namespace weft::balancer {

bool IsVmHelper(int32_t id);
// "map_lookup_elem, map_update_elem, ..."
std::string VmHelperNames();

}  // namespace weft::balancer
