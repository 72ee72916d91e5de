// SPDX-License-Identifier: MIT
//
// The seam between the balancer's logic and the kernel's BPF: load a policy, attach it with a link, find
// the link that an earlier run left pinned. libbpf behind it in the product, a fake in unit tests. One
// thread at a time; processes exclude each other through Lock().
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "userland/base/status.h"

namespace weft::balancer {

// A policy that the verifier has accepted. Unloaded with this object unless a link holds it.
class Program {
 public:
  virtual ~Program() = default;
};

// The attachment of a policy; open handle. The attachment lives while a handle or its pin does.
class Link {
 public:
  virtual ~Link() = default;
  // Replaces the policy in one step: no request sees none. Attach(program) must have been tried before (its
  // EBUSY is the reason to come here). ENOLINK: the kernel has detached this link.
  virtual Status Update(const Program& program) = 0;
  // The built-in default is in force when it returns. Succeeds on a link that is detached.
  virtual Status Detach() = 0;
  // Gives the attachment its name in bpffs, in place of any other that has it: it outlives the process.
  virtual Status Pin() = 0;
};

class BpfHost {
 public:
  virtual ~BpfHost() = default;

  // Makes bpffs usable (mounts it when nobody has) and keeps other processes out until this object dies.
  virtual Status Lock() = 0;
  // A policy as an ELF object; `name` is for errors. EINVAL with the end of the verifier's log; EPERM; ENOENT,
  // ESRCH: what the kernel or module lacks.
  virtual Result<std::unique_ptr<Program>> Load(std::span<const std::byte> object, const std::string& name) = 0;
  // EBUSY: a policy is attached already.
  virtual Result<std::unique_ptr<Link>> Attach(const Program& program) = 0;
  // ENOENT: nothing is pinned.
  virtual Result<std::unique_ptr<Link>> OpenPinned() = 0;
  // Removes the name; success when there is none.
  virtual Status Unpin() = 0;
};

std::unique_ptr<BpfHost> MakeBpfHost();

}  // namespace weft::balancer
