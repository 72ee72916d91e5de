// SPDX-License-Identifier: MIT
//
// Which policy balances this host's requests: shows it, swaps it under load, goes back to the built-in, and
// takes up the one that was chosen before a reboot. Not thread-safe; processes may race, each change is whole.
#pragma once

#include <string>

#include "userland/balancer/bpf_host.h"
#include "userland/balancer/choice.h"
#include "userland/balancer/sysfs.h"
#include "userland/base/status.h"

namespace weft::balancer {

struct Change {
  std::string before;  // names of policies
  std::string after;
};

class Balancer {
 public:
  Balancer(BpfHost& host, const Sysfs& sysfs, ChoiceStore store = ChoiceStore(kChoiceDir))
      : host_(host), sysfs_(sysfs), store_(std::move(store)) {}

  // `policy` is the name of one that ships (ENOENT lists them) or, when it has a '/', the path of a BPF
  // object. Says what is in force afterwards: the name in the program, or the built-in when the policy
  // was bad enough to be detached at once. The choice is kept for Restore() unless it was.
  Result<Change> Set(const std::string& policy);

  // What Set() chose last is in force again, when nothing has been attached since the module was loaded. A
  // policy that the module has detached for its faults is not: EPROTO. Nothing to do is success, with
  // before == after.
  Result<Change> Restore();

 private:
  Result<Change> Apply(const Choice& choice);
  Result<std::unique_ptr<Program>> Load(const Choice& choice);
  Status Attach(const Program& program);
  Status Detach(const std::string& active);

  BpfHost& host_;
  const Sysfs& sysfs_;
  ChoiceStore store_;
};

}  // namespace weft::balancer
