// SPDX-License-Identifier: MIT
//
// The serving side of Thrift: one listening TCP socket, one thread a connection (they only parse, call the
// processor and send the reply; a cluster has few connections: one or two an agent, one a target). Bytes
// that are no call end their connection with one line in the log that names the peer; nothing else notices.
// Listen and Stop from one thread.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <thrift/TProcessor.h>

#include "userland/base/address.h"
#include "userland/base/status.h"
#include "userland/rpc/frame_transport.h"

namespace weft {

class RpcServer {
 public:
  // Serves at once. processor: usually a TMultiplexedProcessor; called by several threads.
  static Result<std::unique_ptr<RpcServer>> Listen(const Address& address,
                                                   std::shared_ptr<apache::thrift::TProcessor> processor);
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  const Address& address() const { return address_; }  // with the port that the kernel chose

  // Takes no more calls, lets running ones answer, closes everything. Idempotent.
  void Stop();

 private:
  struct Connection {
    std::shared_ptr<FrameTransport> transport;
    std::thread thread;
    bool done = false;
  };

  RpcServer(int listen_fd, int stop_fd, Address address, std::shared_ptr<apache::thrift::TProcessor> processor);
  void AcceptLoop();
  void Accept();
  void Serve(Connection* connection);
  void Reap();

  const int listen_fd_;
  const int stop_fd_;
  const Address address_;
  const std::shared_ptr<apache::thrift::TProcessor> processor_;
  std::mutex mutex_;
  std::list<Connection> connections_;  // guarded by mutex_
  bool refusing_ = false;              // accept thread only: said that there are too many
  std::thread accept_thread_;
};

}  // namespace weft
