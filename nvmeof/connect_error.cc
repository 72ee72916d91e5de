// SPDX-License-Identifier: MIT
#include "nvmeof/connect_error.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace weft::nvmeof {
namespace {

// Causes that EIO has, in the kernel's words.
constexpr std::string_view kNoSubsystem = "Connect Invalid Data Parameter, subsysnqn";
constexpr std::string_view kBadHostNqn = "Connect Invalid Data Parameter, hostnqn";
constexpr std::string_view kNotAllowed = "is not allowed, hostnqn";
constexpr std::string_view kAuthentication[] = {"authentication failed", "authentication required",
                                                "authentication setup failed"};
constexpr std::string_view kBusy = "controller is busy or not available";

bool Logged(const ConnectFailure& failure, std::string_view words) {
  return failure.log && std::any_of(failure.log->begin(), failure.log->end(), [&](const std::string& message) {
           return message.find(words) != std::string::npos;
         });
}

bool LoggedAuthentication(const ConnectFailure& failure) {
  return std::any_of(std::begin(kAuthentication), std::end(kAuthentication),
                     [&](std::string_view words) { return Logged(failure, words); });
}

std::string LastLogged(const ConnectFailure& failure) {
  if (!failure.log || failure.log->empty()) return {};
  return fmt::format("; the kernel says: {}", failure.log->back());
}

std::string DiscoverCommand(const ConnectFailure& failure) {
  const Endpoint& endpoint = failure.request.endpoint;
  return fmt::format("`nvme discover -t {} -a {} -s {}`", ToString(endpoint.transport), endpoint.host, endpoint.port);
}

Status NoSubsystem(const ConnectFailure& failure) {
  return Error(ENOENT, "{} has no subsystem {}; {} lists what this host may use there",
               failure.request.endpoint.ToString(), failure.request.nqn, DiscoverCommand(failure));
}

Status NotAdmitted(const ConnectFailure& failure) {
  return Error(EACCES, "subsystem {} at {} does not admit host NQN {}; add it to the subsystem's allowed hosts there",
               failure.request.nqn, failure.request.endpoint.ToString(), failure.request.identity.hostnqn);
}

// Also nvmet refuses in two ways, but a discovery log does not tell them apart.
Status NotListed(const ConnectFailure& failure) {
  return Error(ENOENT,
               "{} offers no subsystem {} to this host: there is none, or its allowed hosts lack host NQN {}; the log "
               "of the storage node says which",
               failure.request.endpoint.ToString(), failure.request.nqn, failure.request.identity.hostnqn);
}

Status BadKey(const ConnectFailure& failure) {
  const HostSettings& host = failure.request.settings;
  std::string where = fmt::format("subsystem {} at {}", failure.request.nqn, failure.request.endpoint.ToString());
  const std::string& hostnqn = failure.request.identity.hostnqn;
  if (host.dhchap_key.empty()) {
    return Error(EKEYREJECTED,
                 "{} wants host NQN {} to prove a DH-HMAC-CHAP key, and none is set; set the one that it has for it",
                 where, hostnqn);
  }
  if (!host.dhchap_ctrl_key.empty()) {
    return Error(EKEYREJECTED,
                 "{} and host NQN {} have not proved their DH-HMAC-CHAP keys to each other; compare both keys with "
                 "those that it has for it",
                 where, hostnqn);
  }
  return Error(EKEYREJECTED,
               "{} rejected the DH-HMAC-CHAP key of host NQN {}; compare it with the one that it has for it", where,
               hostnqn);
}

// TLS is set up before a controller asks for DH-HMAC-CHAP; the kernel has ENOKEY for both.
Status NoKey(const ConnectFailure& failure) {
  const ConnectRequest& request = failure.request;
  bool psk =
      Logged(failure, "no valid PSK") || (!failure.log && request.settings.tls && !request.settings.dhchap_key.empty());
  if (psk) {
    return Error(EKEYREJECTED,
                 "keyring .nvme of this host has no TLS key for host NQN {} and subsystem {} at {}; put the "
                 "one of the storage node there",
                 request.identity.hostnqn, request.nqn, request.endpoint.ToString());
  }
  if (failure.log || !request.settings.tls) return BadKey(failure);
  return Error(EKEYREJECTED,
               "a key is missing for host NQN {} and subsystem {} at {}: a TLS key in keyring .nvme, or the "
               "DH-HMAC-CHAP key that it wants; the kernel log says which",
               request.identity.hostnqn, request.nqn, request.endpoint.ToString());
}

Status NothingListens(const ConnectFailure& failure) {
  return Error(ECONNREFUSED, "nothing listens at {}; check the storage node's port and its transport",
               failure.request.endpoint.ToString());
}

Status Unreachable(const ConnectFailure& failure) {
  return Error(EHOSTUNREACH,
               "{} cannot be reached ({}); check the address, the network and whether the storage node is up",
               failure.request.endpoint.ToString(), strerrordesc_np(failure.error));
}

// What RDMA says of a peer that rejects and of one that never answers.
Status Reset(const ConnectFailure& failure) {
  if (Logged(failure, "Connect rejected: status 8")) return NothingListens(failure);
  if (Logged(failure, "Connect rejected")) {
    return Error(ECONNREFUSED, "{} rejected the connection{}", failure.request.endpoint.ToString(),
                 LastLogged(failure));
  }
  if (failure.log && failure.request.endpoint.transport == Transport::kRdma) return Unreachable(failure);
  return Error(ECONNREFUSED, "nothing listens at {}, or it does not answer; check the storage node and its port",
               failure.request.endpoint.ToString());
}

Status Refused(const ConnectFailure& failure) {
  if (Logged(failure, kNoSubsystem)) return NoSubsystem(failure);
  if (Logged(failure, kNotAllowed) || Logged(failure, kBadHostNqn)) return NotAdmitted(failure);
  if (LoggedAuthentication(failure)) return BadKey(failure);
  if (Logged(failure, kBusy)) {
    return Error(EBUSY, "subsystem {} at {} takes no more controllers now", failure.request.nqn,
                 failure.request.endpoint.ToString());
  }
  if (failure.listed == false) return NotListed(failure);
  return Error(EIO, "subsystem {} at {} failed to connect{}", failure.request.nqn, failure.request.endpoint.ToString(),
               failure.log ? LastLogged(failure) : "; the kernel log of this host says why");
}

Status Invalid(const ConnectFailure& failure) {
  const ConnectRequest& request = failure.request;
  std::string_view transport = ToString(request.endpoint.transport);
  if (!failure.has_module) {
    return Error(ENODEV, "this kernel has no module nvme-{0} for {1}; `modprobe nvme-{0}`", transport,
                 request.endpoint.ToString());
  }
  if (!failure.identity_conflict.empty()) {
    return Error(EINVAL, "host NQN {} with host id {} cannot connect to {}: {}; a host has one of each",
                 request.identity.hostnqn, request.identity.hostid, request.endpoint.ToString(),
                 failure.identity_conflict);
  }
  return Error(EINVAL, "the kernel refuses the options for {} at {}{}", request.nqn, request.endpoint.ToString(),
               failure.log && !failure.log->empty() ? LastLogged(failure) : "; its log says which");
}

Status NoTlsDaemon(const ConnectFailure& failure) {
  return Error(ENOPROTOOPT,
               "TLS to {} needs tlshd, which does not run on this host; install ktls-utils, `systemctl start tlshd`",
               failure.request.endpoint.ToString());
}

Status NoDevice(const ConnectFailure& failure) {
  return Error(EHOSTUNREACH,
               "no RDMA device of this host leads to {}; `rdma link` lists those it has, nvme+tcp needs none",
               failure.request.endpoint.ToString());
}

Status NotItsAddress(const ConnectFailure& failure) {
  return Error(
      EADDRNOTAVAIL,
      "host address '{}' is not one of this host, so {} cannot be connected from it; `ip address` lists those it has",
      failure.request.settings.host_address, failure.request.endpoint.ToString());
}

}  // namespace

std::vector<std::string> OfNewControllers(const std::vector<std::string>& messages,
                                          const std::vector<std::string>& known) {
  constexpr std::string_view kPrefix = "nvme ";
  std::vector<std::string> found;
  for (const std::string& message : messages) {
    size_t colon = message.find(": ");
    if (!message.starts_with("nvme nvme") || colon == std::string::npos) continue;
    std::string controller = message.substr(kPrefix.size(), colon - kPrefix.size());
    if (std::find(known.begin(), known.end(), controller) == known.end()) found.push_back(message.substr(colon + 2));
  }
  return found;
}

bool IsAmbiguous(const ConnectFailure& failure) {
  if (failure.error != EIO || failure.listed) return false;
  return !Logged(failure, kNoSubsystem) && !Logged(failure, kNotAllowed) && !Logged(failure, kBadHostNqn) &&
         !Logged(failure, kBusy) && !LoggedAuthentication(failure);
}

Status ExplainConnectError(const ConnectFailure& failure) {
  switch (failure.error) {
    case EIO:
      return Refused(failure);
    case EKEYREJECTED:
      return BadKey(failure);
    case ENOKEY:
      return NoKey(failure);
    case ECONNREFUSED:
      return NothingListens(failure);
    case ECONNRESET:
      return Reset(failure);
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EHOSTDOWN:
      return Unreachable(failure);
    case ETIMEDOUT:
      return Error(ETIMEDOUT, "{} does not answer; check the address, the network and whether the storage node is up",
                   failure.request.endpoint.ToString());
    case ESRCH:
      return NoTlsDaemon(failure);
    case ENODEV:
      return NoDevice(failure);
    case EADDRNOTAVAIL:
      return NotItsAddress(failure);
    case EINVAL:
      return Invalid(failure);
    default:
      return Error(failure.error, "{}: {}{}", failure.request.endpoint.ToString(), strerrordesc_np(failure.error),
                   LastLogged(failure));
  }
}

}  // namespace weft::nvmeof
