// SPDX-License-Identifier: MIT
//
// TCP sockets for Thrift connections: connect and listen by "host:port", no delay, keepalive. Any thread.
#pragma once

#include <string>

#include "userland/base/address.h"
#include "userland/base/status.h"

namespace weft {

// A connected socket. ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ... with the address in the message.
Result<int> ConnectTcp(const Address& server, int timeout_ms);

// A listening socket; port 0 lets the kernel choose. EADDRINUSE names the address.
Result<int> ListenTcp(const Address& address);

// Options of every Thrift connection; for sockets that accept(2) returned.
void SetConnectionOptions(int fd);

// "host:port" of the two ends.
std::string PeerName(int fd);
Result<Address> LocalAddress(int fd);

}  // namespace weft
