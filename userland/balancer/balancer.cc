// SPDX-License-Identifier: MIT
#include "userland/balancer/balancer.h"

#include <cerrno>

#include "userland/balancer/policies.h"

namespace weft::balancer {

Result<Change> Balancer::Set(const std::string& policy) {
  Result<Choice> choice = MakeChoice(policy);
  if (!choice.ok()) return choice.status();
  if (Result<BalancerState> loaded = sysfs_.Balancer(); !loaded.ok()) return loaded.status();
  if (Status s = host_.Lock(); !s.ok()) return s;
  Result<Change> change = Apply(*choice);
  if (!change.ok()) return change;
  bool detached_at_once = change->after == kBuiltinPolicy && choice->policy != kBuiltinPolicy;
  if (detached_at_once) return change;
  if (Status s = store_.Save(*choice); !s.ok()) {
    return s.Annotate(fmt::format("policy {} is in force, but will not be after a reboot", change->after));
  }
  return change;
}

Result<Change> Balancer::Restore() {
  Result<Choice> choice = store_.Load();
  if (choice.status().code() == ENOENT) return Change{};
  if (!choice.ok()) return choice.status();
  if (choice->policy == kBuiltinPolicy) return Change{};
  if (Status s = host_.Lock(); !s.ok()) return s;
  Result<BalancerState> state = sysfs_.Balancer();
  if (!state.ok()) return state.status();
  if (state->policy != kBuiltinPolicy) return Change{state->policy, state->policy};
  std::string name = choice->policy.empty() ? choice->from : choice->policy;
  if (host_.OpenPinned().ok()) {
    return Error(EPROTO,
                 "balancer policy {} was detached for illegal answers and stays so; `weftctl balancer set` chooses "
                 "another one",
                 name);
  }
  if (!choice->policy.empty() && FindPolicy(choice->policy) == nullptr) {
    return Error(ENOENT, "balancer policy {}, which was chosen, does not ship any more; there are {}", name,
                 PolicyNames());
  }
  return Apply(*choice);
}

Result<Change> Balancer::Apply(const Choice& choice) {
  Result<BalancerState> before = sysfs_.Balancer();
  if (!before.ok()) return before.status();
  if (choice.policy == kBuiltinPolicy) {
    if (Status s = Detach(before->policy); !s.ok()) return s;
  } else {
    Result<std::unique_ptr<Program>> program = Load(choice);
    if (!program.ok()) return program.status();
    if (Status s = Attach(**program); !s.ok()) {
      return s.Annotate("balancer policy " + (choice.policy.empty() ? choice.from : choice.policy));
    }
  }
  Result<BalancerState> after = sysfs_.Balancer();
  if (!after.ok()) return after.status();
  return Change{before->policy, after->policy};
}

Result<std::unique_ptr<Program>> Balancer::Load(const Choice& choice) {
  if (choice.policy.empty()) return host_.Load(choice.object, choice.from);
  return host_.Load(FindPolicy(choice.policy)->object(), choice.policy);
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
