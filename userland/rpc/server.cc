// SPDX-License-Identifier: MIT
#include "userland/rpc/server.h"

#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thrift/protocol/TCompactProtocol.h>

#include "userland/base/log.h"
#include "userland/rpc/limits.h"
#include "userland/rpc/socket.h"

namespace weft {
namespace {

using apache::thrift::TException;
using apache::thrift::TProcessor;
using apache::thrift::protocol::TCompactProtocolT;
using apache::thrift::transport::TTransportException;

constexpr int kAcceptBackoffMs = 100;  // when the process has no descriptor left

// Thrift's own words for a field that reaches beyond its frame are about a limit that nobody set.
const char* Explain(const TTransportException& e) {
  return strcmp(e.what(), "MaxMessageSize reached") == 0 ? "message is longer than its frame" : e.what();
}

}  // namespace

Result<std::unique_ptr<RpcServer>> RpcServer::Listen(const Address& address, std::shared_ptr<TProcessor> processor) {
  Result<int> fd = ListenTcp(address);
  if (!fd.ok()) return fd.status();
  Result<Address> local = LocalAddress(*fd);
  int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (!local.ok() || stop_fd < 0) {
    Status status = local.ok() ? Status::Errno(errno, "eventfd") : local.status();
    close(*fd);
    if (stop_fd >= 0) close(stop_fd);
    return status;
  }
  return std::unique_ptr<RpcServer>(new RpcServer(*fd, stop_fd, *local, std::move(processor)));
}

RpcServer::RpcServer(int listen_fd, int stop_fd, Address address, std::shared_ptr<TProcessor> processor)
    : listen_fd_(listen_fd), stop_fd_(stop_fd), address_(std::move(address)), processor_(std::move(processor)) {
  accept_thread_ = std::thread([this] { AcceptLoop(); });
}

RpcServer::~RpcServer() {
  Stop();
  close(listen_fd_);
  close(stop_fd_);
}

void RpcServer::Stop() {
  if (!accept_thread_.joinable()) return;
  eventfd_write(stop_fd_, 1);
  accept_thread_.join();
  {
    std::lock_guard lock(mutex_);
    for (Connection& connection : connections_) connection.transport->Drain();
  }
  // Only the accept thread added to the list, and it is gone.
  for (Connection& connection : connections_) connection.thread.join();
  connections_.clear();
}

void RpcServer::AcceptLoop() {
  for (;;) {
    pollfd waiters[] = {{stop_fd_, POLLIN, 0}, {listen_fd_, POLLIN, 0}};
    if (poll(waiters, 2, -1) < 0) continue;
    if (waiters[0].revents != 0) return;
    Reap();
    Accept();
  }
}

void RpcServer::Accept() {
  int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      LogWarning("{}: a connection has to wait: {}", address_.ToString(), strerror(errno));
      pollfd stop{stop_fd_, POLLIN, 0};
      poll(&stop, 1, kAcceptBackoffMs);
    }
    return;  // else the peer has gone already
  }
  SetConnectionOptions(fd);
  auto transport = std::make_shared<FrameTransport>(fd, PeerName(fd));
  std::lock_guard lock(mutex_);
  if (connections_.size() >= static_cast<size_t>(kConnectionsMax)) {
    if (!refusing_) {
      LogWarning("{}: refusing {} and others: there are {} connections already", address_.ToString(), transport->peer(),
                 kConnectionsMax);
    }
    refusing_ = true;
    return;
  }
  refusing_ = false;
  Connection* connection = &connections_.emplace_back();
  connection->transport = std::move(transport);
  connection->thread = std::thread([this, connection] { Serve(connection); });
}

void RpcServer::Serve(Connection* connection) {
  FrameTransport& transport = *connection->transport;
  LogDebug("{}: connected", transport.peer());
  auto protocol =
      std::make_shared<TCompactProtocolT<FrameTransport>>(connection->transport, kStringBytesMax, kContainerItemsMax);
  transport.set_wait_ms(kFirstFrameMs);
  try {
    while (processor_->process(protocol, protocol, nullptr)) transport.set_wait_ms(-1);
    LogDebug("{}: disconnected", transport.peer());
  } catch (const TTransportException& e) {
    if (transport.ended_cleanly() || e.getType() == TTransportException::INTERRUPTED) {
      LogDebug("{}: disconnected", transport.peer());
    } else {
      LogWarning("{}: connection dropped: {}", transport.peer(), Explain(e));
    }
  } catch (const TException& e) {
    LogWarning("{}: connection dropped: not a call of this service: {}", transport.peer(), e.what());
  } catch (const std::exception& e) {
    LogWarning("{}: connection dropped: {}", transport.peer(), e.what());
  }
  transport.close();
  std::lock_guard lock(mutex_);
  connection->done = true;
}

void RpcServer::Reap() {
  std::list<Connection> done;
  {
    std::lock_guard lock(mutex_);
    for (auto it = connections_.begin(); it != connections_.end();) {
      auto next = std::next(it);
      if (it->done) done.splice(done.end(), connections_, it);
      it = next;
    }
  }
  for (Connection& connection : done) connection.thread.join();
}

}  // namespace weft
