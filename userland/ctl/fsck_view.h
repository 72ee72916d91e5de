// SPDX-License-Identifier: MIT
//
// What fsck found, as weftctl shows it. Pure functions.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "thrift-gen/admin_types.h"
#include "userland/base/status.h"

namespace weft::ctl {

std::string FsckText(const idl::FsckReport& report);
nlohmann::ordered_json FsckJson(const idl::FsckReport& report);

// EUCLEAN: problems are left; says how many and what to do about them.
Status FsckVerdict(const idl::FsckReport& report);

}  // namespace weft::ctl
