// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "rdma/real_objects.h"
#include "rdma/reaper.h"

namespace weft::rdma {
namespace {

constexpr int kRouteTimeoutMs = 2000;
constexpr int kRejectedByUser = 28;  // IB_CM_REJ_CONSUMER_DEFINED

struct AddressInfo {
  addrinfo* list = nullptr;
  ~AddressInfo() {
    if (list) freeaddrinfo(list);
  }
};

// Numeric addresses only: nothing here may wait for a name server.
Status ParseNumeric(const std::string& host, uint16_t port, AddressInfo* info) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  if (int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &info->list)) {
    return Error(EINVAL, "\"{}\" is not an IP address of the RDMA network ({})", host, gai_strerror(error));
  }
  return Status::Ok();
}

class RealListener final : public Listener {
 public:
  explicit RealListener(rdma_cm_id* id) : id_(id) {}
  ~RealListener() override { rdma_destroy_id(id_); }
  uint16_t port() const override { return ntohs(rdma_get_src_port(id_)); }

 private:
  rdma_cm_id* id_;
};

class RealCmChannel final : public CmChannel {
 public:
  RealCmChannel(RealVerbsImpl* verbs, rdma_event_channel* channel) : verbs_(verbs), channel_(channel) {}
  ~RealCmChannel() override {
    Reaper::Instance().Wait();
    rdma_destroy_event_channel(channel_);
  }
  Result<std::unique_ptr<Listener>> Listen(const std::string& host, uint16_t port, int backlog) override;
  Result<std::unique_ptr<Connection>> Resolve(const std::string& host, uint16_t port, int timeout_ms) override;
  bool NextEvent(CmEvent* event) override;
  int event_fd() const override { return channel_->fd; }

 private:
  bool Translate(const rdma_cm_event& from, RealConnection* connection, CmEvent* to);
  bool TranslateRequest(const rdma_cm_event& from, CmEvent* to);

  RealVerbsImpl* verbs_;
  rdma_event_channel* channel_;
};

Result<std::unique_ptr<Listener>> RealCmChannel::Listen(const std::string& host, uint16_t port, int backlog) {
  AddressInfo info;
  if (Status s = ParseNumeric(host, port, &info); !s.ok()) return s;
  rdma_cm_id* id;
  if (rdma_create_id(channel_, &id, nullptr, RDMA_PS_TCP)) return Status::Errno(errno, "rdma_create_id");
  auto listener = std::make_unique<RealListener>(id);
  int on = 1;
  rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_REUSEADDR, &on, sizeof on);
  if (rdma_bind_addr(id, info.list->ai_addr)) {
    return Status::Errno(
        errno, fmt::format("bind to {}:{} (it must be an address of an RDMA device, see `rdma link`)", host, port));
  }
  if (rdma_listen(id, backlog)) return Status::Errno(errno, fmt::format("listen on {}:{}", host, port));
  return std::unique_ptr<Listener>(std::move(listener));
}

Result<std::unique_ptr<Connection>> RealCmChannel::Resolve(const std::string& host, uint16_t port, int timeout_ms) {
  AddressInfo info;
  if (Status s = ParseNumeric(host, port, &info); !s.ok()) return s;
  rdma_cm_id* id;
  if (rdma_create_id(channel_, &id, nullptr, RDMA_PS_TCP)) return Status::Errno(errno, "rdma_create_id");
  auto connection = std::make_unique<RealConnection>(verbs_, id);
  if (rdma_resolve_addr(id, nullptr, info.list->ai_addr, timeout_ms)) {
    return Status::Errno(errno, fmt::format("no RDMA device leads to {}:{}", host, port));
  }
  return std::unique_ptr<Connection>(std::move(connection));
}

bool RealCmChannel::NextEvent(CmEvent* event) {
  rdma_cm_event* raw;
  while (rdma_get_cm_event(channel_, &raw) == 0) {
    // The event is acknowledged before anybody sees its translation: destroying an id waits for that. After it an
    // id without a context may be gone; one that listens has none either.
    rdma_cm_event copy = *raw;
    auto* connection = static_cast<RealConnection*>(copy.id->context);
    std::array<uint8_t, 256> data;
    if (copy.param.conn.private_data) {
      memcpy(data.data(), copy.param.conn.private_data, copy.param.conn.private_data_len);
      copy.param.conn.private_data = data.data();
    } else {
      copy.param.conn.private_data_len = 0;
    }
    rdma_ack_cm_event(raw);
    bool request = copy.event == RDMA_CM_EVENT_CONNECT_REQUEST;
    if (request ? TranslateRequest(copy, event) : connection && Translate(copy, connection, event)) return true;
  }
  return false;
}

bool RealCmChannel::Translate(const rdma_cm_event& from, RealConnection* connection, CmEvent* to) {
  *to = CmEvent{};
  to->connection = connection;
  auto fail = [&](int error, std::string what) {
    to->type = CmEvent::Type::kFailed;
    to->error = error;
    to->what = std::move(what);
    return true;
  };
  switch (from.event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      if (Status s = connection->BindDevice(); !s.ok()) return fail(s.code(), s.message());
      if (rdma_resolve_route(connection->id(), kRouteTimeoutMs)) return fail(errno, "no route");
      return false;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
      to->type = CmEvent::Type::kResolved;
      return true;
    case RDMA_CM_EVENT_ESTABLISHED:
      to->type = CmEvent::Type::kEstablished;
      connection->set_established();
      break;
    case RDMA_CM_EVENT_REJECTED:
      // A peer that ends the connection before our last message of the handshake (RTU) has reached it can
      // only reject what it had accepted.
      if (connection->established()) {
        to->type = CmEvent::Type::kDisconnected;
        return true;
      }
      to->type = CmEvent::Type::kRejected;
      if (from.status != kRejectedByUser) return true;
      break;
    case RDMA_CM_EVENT_DISCONNECTED:
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      to->type = CmEvent::Type::kDisconnected;
      return true;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_CONNECT_ERROR:
      return fail(from.status < 0 ? -from.status : EHOSTUNREACH, rdma_event_str(from.event));
    default:
      return false;  // RDMA_CM_EVENT_TIMEWAIT_EXIT, _ADDR_CHANGE: nothing to do
  }
  to->private_bytes = from.param.conn.private_data_len;
  if (to->private_bytes) memcpy(to->private_data.data(), from.param.conn.private_data, to->private_bytes);
  return true;
}

bool RealCmChannel::TranslateRequest(const rdma_cm_event& from, CmEvent* to) {
  auto connection = std::make_unique<RealConnection>(verbs_, from.id);
  connection->set_offer(from.param.conn);
  if (Status s = connection->BindDevice(); !s.ok()) {
    connection->Reject({});
    return false;
  }
  to->type = CmEvent::Type::kRequest;
  to->connection = nullptr;
  to->incoming = std::move(connection);
  to->private_bytes = from.param.conn.private_data_len;
  if (to->private_bytes) memcpy(to->private_data.data(), from.param.conn.private_data, to->private_bytes);
  return true;
}

}  // namespace

Result<std::unique_ptr<CmChannel>> RealVerbsImpl::CreateCmChannel() {
  // Its thread is there before the first connection is lost: the memory that one takes might wait for this process.
  Reaper::Instance();
  rdma_event_channel* channel = rdma_create_event_channel();
  if (!channel) {
    return Status::Errno(errno, "no RDMA connection manager (is rdma_ucm loaded and /dev/infiniband/rdma_cm there?)");
  }
  int flags = fcntl(channel->fd, F_GETFL);
  fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK);
  return std::unique_ptr<CmChannel>(std::make_unique<RealCmChannel>(this, channel));
}

Verbs* RealVerbs() {
  static auto* verbs = new RealVerbsImpl();  // never destroyed: librdmacm keeps the devices open as well
  return verbs;
}

}  // namespace weft::rdma
