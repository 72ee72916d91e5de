// SPDX-License-Identifier: MIT
//
// Sees to it that an agent serves a cluster on this host: finds the one that is attached, or starts it,
// by systemd where its unit is installed, else as a daemon of its own, and waits until it is ready.
#pragma once

#include <string>

#include "userland/base/status.h"

namespace weft {

struct AgentStart {
  std::string cluster;
  // Given to weftd; empty: weftd finds its own.
  std::string config;
  std::string meta;
  std::string key;
};

bool AgentIsAttached(const std::string& cluster);

// Loads the module when /dev/weft is absent. ENOENT says how to.
Status EnsureModule();

// Returns when the agent is ready. The error carries what the agent had to say.
Status StartAgent(const AgentStart& start);

// What the agent writes about, from `offset` of its log on: the last few warnings and errors, one a line.
std::string AgentLogPath(const std::string& cluster);
int64_t AgentLogBytes(const std::string& cluster);
std::string AgentComplaints(const std::string& cluster, int64_t offset);

}  // namespace weft
