// SPDX-License-Identifier: MIT
#include "userland/balancer/balancer.h"

#include <cerrno>

namespace weft::balancer {

Result<Change> Balancer::Set(const std::string& policy) {
  bool is_path = policy.find('/') != std::string::npos;
  if (!is_path && FindPolicy(policy) == nullptr) {
    return Error(ENOENT,
                 "no balancer policy is named '{}'; there are {}; a BPF object of your own is named by its path, "
                 "as in ./{}.bpf.o",
                 policy, PolicyNames(), policy);
  }
  Result<BalancerState> before = sysfs_.Balancer();
  if (!before.ok()) return before.status();
  if (Status s = host_.Lock(); !s.ok()) return s;

  if (policy == kBuiltinPolicy) {
    if (Status s = Detach(before->policy); !s.ok()) return s;
  } else {
    Result<std::unique_ptr<Program>> program = Load(policy);
    if (!program.ok()) return program.status();
    if (Status s = Attach(**program); !s.ok()) return s.Annotate("balancer policy " + policy);
  }
  Result<BalancerState> after = sysfs_.Balancer();
  if (!after.ok()) return after.status();
  return Change{before->policy, after->policy};
}

Result<std::unique_ptr<Program>> Balancer::Load(const std::string& policy) {
  if (policy.find('/') != std::string::npos) return host_.LoadFile(policy);
  return host_.Load(*FindPolicy(policy));
}

Status Balancer::Attach(const Program& program) {
  // First as if nothing were attached: that also holds when the module has detached a faulty policy,
  // whose dead link is still pinned. Only then swap.
  Result<std::unique_ptr<Link>> link = host_.Attach(program);
  if (link.ok()) return (*link)->Pin();
  if (link.status().code() != EBUSY) return link.status();
  Result<std::unique_ptr<Link>> pinned = host_.OpenPinned();
  Status updated = pinned.ok() ? (*pinned)->Update(program) : pinned.status();
  if (updated.code() != ENOENT && updated.code() != ENOLINK) return updated;
  return Error(EBUSY,
               "another program has attached a policy that is not pinned where weftctl pins; find it with "
               "`bpftool link` and end it");
}

Status Balancer::Detach(const std::string& active) {
  Result<std::unique_ptr<Link>> pinned = host_.OpenPinned();
  if (pinned.ok()) {
    if (Status s = (*pinned)->Detach(); !s.ok()) return s;
    return host_.Unpin();
  }
  if (pinned.status().code() != ENOENT) return pinned.status();
  if (active == kBuiltinPolicy) return {};
  return Error(EBUSY,
               "policy {} was attached by another program, which has not pinned it where weftctl pins; find it "
               "with `bpftool link` and end it",
               active);
}

}  // namespace weft::balancer
