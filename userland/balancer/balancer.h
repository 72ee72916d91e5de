// SPDX-License-Identifier: MIT
//
// Which policy balances this host's requests: shows it, swaps it under load, goes back to the built-in.
// Not thread-safe; processes may race, each change is whole.
#pragma once

#include <string>

#include "userland/balancer/bpf_host.h"
#include "userland/balancer/sysfs.h"
#include "userland/base/status.h"

namespace weft::balancer {

struct Change {
  std::string before;  // names of policies
  std::string after;
};

class Balancer {
 public:
  Balancer(BpfHost& host, const Sysfs& sysfs) : host_(host), sysfs_(sysfs) {}

  // `policy` is the name of one that ships (ENOENT lists them) or, when it has a '/', the path of a BPF
  // object. Says what is in force afterwards: the name in the program, or the built-in when the policy
  // was bad enough to be detached at once.
  Result<Change> Set(const std::string& policy);

 private:
  Result<std::unique_ptr<Program>> Load(const std::string& policy);
  Status Attach(const Program& program);
  Status Detach(const std::string& active);

  BpfHost& host_;
  const Sysfs& sysfs_;
};

}  // namespace weft::balancer
