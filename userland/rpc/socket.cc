// SPDX-License-Identifier: MIT
#include "userland/rpc/socket.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "userland/rpc/limits.h"

namespace weft {
namespace {

using AddrInfo = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<AddrInfo> Resolve(const Address& address, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  int rc = getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (rc != 0) {
    int code = rc == EAI_SYSTEM ? errno : EHOSTUNREACH;
    return Error(code, "{}: {}", address.ToString(), rc == EAI_SYSTEM ? strerror(code) : gai_strerror(rc));
  }
  return AddrInfo(found, freeaddrinfo);
}

// Name of a socket address; "?" when the kernel gives none.
std::string NameOf(const sockaddr_storage& storage, socklen_t bytes) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(reinterpret_cast<const sockaddr*>(&storage), bytes, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  return Address{host, static_cast<uint16_t>(atoi(port))}.ToString();
}

// Finishes a connect(2) that is under way; 0 or an errno.
int AwaitConnect(int fd, int timeout_ms) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point end = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return ETIMEDOUT;
    pollfd waiter{fd, POLLOUT, 0};
    int rc = poll(&waiter, 1, static_cast<int>(left));
    if (rc < 0 && errno != EINTR) return errno;
    if (rc <= 0) continue;
    int error = 0;
    socklen_t bytes = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) return errno;
    return error;
  }
}

int ConnectOne(const addrinfo& info, int timeout_ms, int* fd_out) {
  int fd = socket(info.ai_family, info.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, info.ai_protocol);
  if (fd < 0) return errno;
  int error = connect(fd, info.ai_addr, info.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) error = AwaitConnect(fd, timeout_ms);
  if (error != 0) {
    close(fd);
    return error;
  }
  *fd_out = fd;
  return 0;
}

}  // namespace

void SetConnectionOptions(int fd) {
  // Each of them makes a connection better, none is needed for it to work: failures are of no consequence.
  auto set = [fd](int level, int option, int value) { (void)setsockopt(fd, level, option, &value, sizeof(value)); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleS);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalS);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  // Keepalive does not look at a connection with data in flight; this does.
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, kTransferMs);
}

Result<int> ConnectTcp(const Address& server, int timeout_ms) {
  Result<AddrInfo> found = Resolve(server, 0);
  if (!found.ok()) return found.status();
  int error = EHOSTUNREACH;
  for (const addrinfo* info = found->get(); info != nullptr; info = info->ai_next) {
    int fd = -1;
    error = ConnectOne(*info, timeout_ms, &fd);
    if (error == 0) {
      SetConnectionOptions(fd);
      return fd;
    }
  }
  return Error(error, "{}: {}", server.ToString(), strerror(error));
}

Result<int> ListenTcp(const Address& address) {
  Result<AddrInfo> found = Resolve(address, AI_PASSIVE);
  if (!found.ok()) return found.status();
  const addrinfo& info = **found;
  int fd = socket(info.ai_family, info.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, info.ai_protocol);
  if (fd < 0) return Status::Errno(errno, address.ToString());
  int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 && bind(fd, info.ai_addr, info.ai_addrlen) == 0 &&
      listen(fd, kListenBacklog) == 0) {
    return fd;
  }
  int error = errno;
  close(fd);
  if (error == EADDRINUSE) {
    return Error(error, "{} is in use by another process; choose another address with --listen", address.ToString());
  }
  return Status::Errno(error, fmt::format("cannot listen on {}", address.ToString()));
}

std::string PeerName(int fd) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof(storage);
  return getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) == 0 ? NameOf(storage, bytes) : "?";
}

Result<Address> LocalAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof(storage);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0) return Status::Errno(errno, "getsockname");
  return ParseAddress(NameOf(storage, bytes), 0);
}

}  // namespace weft
