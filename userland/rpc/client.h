// SPDX-License-Identifier: MIT
//
// The calling side of a Thrift service of weft-meta: connects when it has to, turns every exception into
// a Status, and starts afresh after an error of the connection. One thread calls; Interrupt may come from
// any other.
//
//   RpcClient<idl::MetaServiceClient> meta(server, kMetaService);
//   Result<idl::Session> session = meta.Call([&](idl::MetaServiceClient& service) {
//     idl::Session reply;
//     service.openSession(reply, args);
//     return reply;
//   });
//
// A call is never repeated here: whether that is safe only the caller knows. The error says what happened:
//   IsConnectionError: the server was not reached or its reply was lost; it may have executed the call
//   EPROTO:            the peer is no weft-meta of a compatible version
//   ECANCELED:         Interrupt
//   anything else:     the service's own answer (ServiceError)
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>

#include <thrift/protocol/TProtocol.h>

#include "thrift-gen/meta_types.h"
#include "userland/base/address.h"
#include "userland/base/status.h"
#include "userland/rpc/frame_transport.h"
#include "userland/rpc/limits.h"

namespace weft {

// Names of the multiplexed services.
inline constexpr std::string_view kMetaService = "meta";
inline constexpr std::string_view kAdminService = "admin";
inline constexpr std::string_view kTargetService = "target";

bool IsConnectionError(const Status& status);

struct RpcOptions {
  int connect_ms = kConnectMs;
  int reply_ms = kReplyMs;  // a call may take this long
};

// What does not depend on the service.
class RpcConnection {
 public:
  RpcConnection(Address server, std::string_view service, RpcOptions options);
  RpcConnection(const RpcConnection&) = delete;
  RpcConnection& operator=(const RpcConnection&) = delete;

  const Address& server() const { return server_; }

  // Makes the running call and all later ones fail with ECANCELED. Any thread.
  void Interrupt();
  // Lets calls pass again after Interrupt.
  void Resume();

 protected:
  // The protocol of a live connection, the previous one when it is still good (*fresh: a new one).
  Result<std::shared_ptr<apache::thrift::protocol::TProtocol>> Protocol(int reply_ms, bool* fresh);
  // To be called in a catch block: closes the connection where needed and says what happened.
  Status Caught();

 private:
  const Address server_;
  const std::string service_;
  const RpcOptions options_;
  std::mutex mutex_;                           // guards the two below against Interrupt
  std::shared_ptr<FrameTransport> transport_;  // null: not connected
  bool interrupted_ = false;
  std::shared_ptr<apache::thrift::protocol::TProtocol> protocol_;
};

template <typename Service>
class RpcClient : public RpcConnection {
 public:
  RpcClient(Address server, std::string_view service, RpcOptions options = {})
      : RpcConnection(std::move(server), service, options) {}

  // Runs call(Service&) and gives back what it returned: Result<T>, or Status where it returns nothing.
  // reply_ms > 0 replaces the option for this call.
  template <typename F>
  auto Call(F&& call, int reply_ms = 0)
      -> std::conditional_t<std::is_void_v<std::invoke_result_t<F, Service&>>, Status,
                            Result<std::conditional_t<std::is_void_v<std::invoke_result_t<F, Service&>>, int,
                                                      std::invoke_result_t<F, Service&>>>> {
    bool fresh = false;
    auto protocol = Protocol(reply_ms, &fresh);
    if (!protocol.ok()) return protocol.status();
    if (fresh || !service_) service_ = std::make_unique<Service>(*protocol);
    try {
      if constexpr (std::is_void_v<std::invoke_result_t<F, Service&>>) {
        call(*service_);
        return Status::Ok();
      } else {
        return call(*service_);
      }
    } catch (...) {
      return Caught();
    }
  }

 private:
  std::unique_ptr<Service> service_;
};

}  // namespace weft
