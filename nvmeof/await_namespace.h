// SPDX-License-Identifier: MIT
//
// Waiting for a namespace behind a connection that stands: the kernel makes its block device some time after that.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "nvmeof/fabric.h"
#include "userland/base/status.h"

namespace weft::nvmeof {

struct AwaitOptions {
  std::chrono::milliseconds timeout{5000};
  std::function<bool(std::chrono::milliseconds)> wait;  // false: give up (ECANCELED). Empty: sleeps
};

// The first that `wanted` accepts and that can be reached. ENODEV: there is none; EHOSTDOWN: no path to it is usable.
Result<Namespace> AwaitNamespace(Fabric* fabric, const std::string& nqn,
                                 const std::function<bool(const Namespace&)>& wanted, const AwaitOptions& options = {});
// The same without waiting; it may be out of reach.
Result<Namespace> FindNamespace(Fabric* fabric, const std::string& nqn,
                                const std::function<bool(const Namespace&)>& wanted);

}  // namespace weft::nvmeof
