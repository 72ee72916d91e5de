// SPDX-License-Identifier: MIT
//
// Runs a program of the operator's and waits for its end. Any thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "userland/base/status.h"

namespace weft {

// command: of the program's file, then its arguments; no shell. Ok: it ended with status 0. EIO: with another, or by a
// signal; the message ends with the last line that it printed. ETIMEDOUT: it was killed, with all that it had started.
// The errno of starting it.
Status RunCommand(const std::vector<std::string>& command, std::chrono::milliseconds timeout);

}  // namespace weft
