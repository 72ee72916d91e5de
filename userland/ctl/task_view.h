// SPDX-License-Identifier: MIT
//
// What goes on in the background of a pool, as weftctl shows it. Pure functions.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "thrift-gen/admin_types.h"

namespace weft::ctl {

// "resync", "drain", ...
std::string TaskName(idl::TaskKind::type kind);

std::string TasksText(const std::vector<idl::TaskInfo>& tasks);  // empty without tasks
std::string TaskLine(const idl::TaskInfo& task);                 // one task inside a sentence
nlohmann::ordered_json TasksJson(const std::vector<idl::TaskInfo>& tasks);

// "[#####-----]  50%"
std::string ProgressBar(int64_t done, int64_t total);

}  // namespace weft::ctl
