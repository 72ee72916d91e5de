// SPDX-License-Identifier: MIT
#include "userland/rpc/client.h"

#include <cerrno>
#include <cstring>

#include <thrift/TApplicationException.h>
#include <thrift/protocol/TCompactProtocol.h>
#include <thrift/protocol/TMultiplexedProtocol.h>

#include "userland/rpc/socket.h"

namespace weft {
namespace {

using apache::thrift::TApplicationException;
using apache::thrift::TException;
using apache::thrift::protocol::TCompactProtocolT;
using apache::thrift::protocol::TMultiplexedProtocol;
using apache::thrift::protocol::TProtocol;
using apache::thrift::protocol::TProtocolException;
using apache::thrift::transport::TTransportException;

int CodeOf(const TTransportException& e) {
  switch (e.getType()) {
    case TTransportException::TIMED_OUT:
      return ETIMEDOUT;
    case TTransportException::CORRUPTED_DATA:
      return EPROTO;
    case TTransportException::INTERRUPTED:
      return ECANCELED;
    case TTransportException::BAD_ARGS:
      return EMSGSIZE;
    default:
      return ECONNRESET;
  }
}

}  // namespace

bool IsConnectionError(const Status& status) {
  switch (status.code()) {
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EADDRNOTAVAIL:
      return true;
    default:
      return false;
  }
}

RpcConnection::RpcConnection(Address server, std::string_view service, RpcOptions options)
    : server_(std::move(server)), service_(service), options_(options) {}

void RpcConnection::Interrupt() {
  std::lock_guard lock(mutex_);
  interrupted_ = true;
  if (transport_) transport_->Interrupt();
}

void RpcConnection::Resume() {
  std::lock_guard lock(mutex_);
  if (interrupted_) transport_.reset();
  interrupted_ = false;
}

Result<std::shared_ptr<TProtocol>> RpcConnection::Protocol(int reply_ms, bool* fresh) {
  bool connected = false;
  {
    std::lock_guard lock(mutex_);
    if (interrupted_) return Error(ECANCELED, "call to {} was interrupted", server_.ToString());
    connected = transport_ != nullptr;
  }
  *fresh = !connected;
  if (!connected) {
    Result<int> fd = ConnectTcp(server_, options_.connect_ms);
    if (!fd.ok()) return fd.status().Annotate("metadata server");
    auto transport = std::make_shared<FrameTransport>(*fd, server_.ToString());
    std::lock_guard lock(mutex_);
    if (interrupted_) return Error(ECANCELED, "call to {} was interrupted", server_.ToString());
    transport_ = transport;
    protocol_ = std::make_shared<TMultiplexedProtocol>(
        std::make_shared<TCompactProtocolT<FrameTransport>>(transport, kStringBytesMax, kContainerItemsMax), service_);
  }
  transport_->set_wait_ms(reply_ms > 0 ? reply_ms : options_.reply_ms);
  return protocol_;
}

Status RpcConnection::Caught() {
  std::string at = fmt::format("metadata server {}", server_.ToString());
  Status status;
  try {
    throw;
  } catch (const idl::ServiceError& e) {
    // An answer like any other: the connection is good.
    return Error(e.code > 0 ? e.code : EPROTO, "{}", e.message);
  } catch (const TTransportException& e) {
    bool ended = transport_ && transport_->ended_cleanly();
    status = Error(CodeOf(e), "{}: {}", at, ended ? "it closed the connection" : e.what());
  } catch (const TApplicationException& e) {
    status = Error(EPROTO, "{}: {}; is it a weft-meta of this version?", at, e.what());
  } catch (const TException& e) {
    status = Error(EPROTO, "{}: reply is malformed: {}", at, e.what());
  } catch (const std::exception& e) {
    status = Error(EPROTO, "{}: {}", at, e.what());
  }
  std::lock_guard lock(mutex_);
  transport_.reset();
  protocol_.reset();
  return status;
}

}  // namespace weft
