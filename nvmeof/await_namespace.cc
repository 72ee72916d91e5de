// SPDX-License-Identifier: MIT
#include "nvmeof/await_namespace.h"

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

namespace weft::nvmeof {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStep{20};
constexpr milliseconds kRescanAfter{500};

}  // namespace

Result<Namespace> FindNamespace(Fabric* fabric, const std::string& nqn,
                                const std::function<bool(const Namespace&)>& wanted) {
  Result<std::vector<Namespace>> visible = fabric->Namespaces(nqn);
  if (!visible.ok()) return visible.status();
  auto found = std::ranges::find_if(*visible, wanted);
  if (found != visible->end()) return *found;
  std::string shown;
  for (const Namespace& ns : *visible) shown += fmt::format("{}{}", shown.empty() ? "" : ", ", ns.nsid);
  return Error(ENODEV, "subsystem {} shows {}: the one that is wanted is not there", nqn,
               shown.empty() ? "no namespace" : "namespaces " + shown);
}

Result<Namespace> AwaitNamespace(Fabric* fabric, const std::string& nqn,
                                 const std::function<bool(const Namespace&)>& wanted, const AwaitOptions& options) {
  auto wait = options.wait ? options.wait : [](milliseconds time) {
    std::this_thread::sleep_for(time);
    return true;
  };
  bool rescanned = false;
  for (milliseconds waited{0};; waited += kStep) {
    Result<Namespace> found = FindNamespace(fabric, nqn, wanted);
    if (found.ok() && found->reachable()) return found;
    if (!found.ok() && found.status().code() != ENODEV) return found;
    if (waited >= options.timeout) return found.ok() ? Error(EHOSTDOWN, "no path to {} is live", nqn) : found;
    if (waited >= kRescanAfter && !std::exchange(rescanned, true)) {
      if (Status s = fabric->Rescan(nqn); !s.ok()) return s;
    }
    if (!wait(kStep)) return Error(ECANCELED, "given up");
  }
}

}  // namespace weft::nvmeof
