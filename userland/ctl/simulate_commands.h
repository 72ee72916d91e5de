// SPDX-License-Identifier: MIT
//
// weftctl trace record and balancer simulate; the table of commands is in balancer_commands.cc. One thread.
#pragma once

#include <boost/program_options.hpp>

#include "userland/base/status.h"
#include "userland/ctl/command.h"

namespace weft::ctl {

void AddRecordOptions(boost::program_options::options_description_easy_init options);
Status RecordTrace(const Context& context, const boost::program_options::variables_map& vm);

void AddSimulateOptions(boost::program_options::options_description_easy_init options);
Status Simulate(const Context& context, const boost::program_options::variables_map& vm);

}  // namespace weft::ctl
