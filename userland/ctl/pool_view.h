// SPDX-License-Identifier: MIT
//
// The pool, its targets and sessions as weftctl shows them: text for people, JSON with the names and units
// of admin.thrift for programs. Pure functions.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "thrift-gen/admin_types.h"

namespace weft::ctl {

// "up", "down", "up, draining", "joining", "spare": what an operator should know first.
std::string TargetStateText(const idl::TargetInfo& target);

std::string PoolText(const idl::PoolStatus& pool);
std::string TargetsText(const std::vector<idl::TargetInfo>& targets);
std::string TargetText(const idl::TargetInfo& target);
// Of one that has ended for its client: when others are let in.
std::string SessionEndText(const idl::SessionInfo& session);
std::string SessionsText(const std::vector<idl::SessionInfo>& sessions);

nlohmann::ordered_json PoolJson(const idl::PoolStatus& pool);
nlohmann::ordered_json TargetJson(const idl::TargetInfo& target);
nlohmann::ordered_json TargetsJson(const std::vector<idl::TargetInfo>& targets);
nlohmann::ordered_json SessionsJson(const std::vector<idl::SessionInfo>& sessions);

}  // namespace weft::ctl
