// SPDX-License-Identifier: MIT
//
// One Thrift connection over TCP: frames as TFramedTransport sends them (4 bytes length, big-endian,
// then the message), with limits and deadlines that a server on an open port needs. Owns its socket.
// One thread reads and writes; Interrupt and Drain may be called from any thread while it lives.
// Errors are TTransportException, as Thrift's protocols expect; RpcClient and RpcServer turn them into
// Status and log lines.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include <thrift/transport/TBufferTransports.h>

#include "userland/rpc/limits.h"

namespace weft {

class FrameTransport final
    : public apache::thrift::transport::TVirtualTransport<FrameTransport, apache::thrift::transport::TBufferBase> {
 public:
  // Takes a connected socket. peer: "host:port" for messages.
  FrameTransport(int fd, std::string peer);
  ~FrameTransport() override;

  // How long to wait for the first byte of the next frame; < 0: for ever.
  void set_wait_ms(int wait_ms) { wait_ms_ = wait_ms; }

  const std::string& peer() const { return peer_; }
  // True when the peer (or Drain) ended the connection between two messages.
  bool ended_cleanly() const { return ended_cleanly_; }

  // Ends every wait of the connection at once; the thread that uses it gets INTERRUPTED.
  void Interrupt();
  // No further message is read; a reply that is being made is still sent.
  void Drain();

  bool isOpen() const override { return open_; }
  void close() override;
  uint32_t readEnd() override;
  void flush() override;
  const std::string getOrigin() const override { return peer_; }

  uint32_t readSlow(uint8_t* buf, uint32_t len) override;
  void writeSlow(const uint8_t* buf, uint32_t len) override;
  const uint8_t* borrowSlow(uint8_t* buf, uint32_t* len) override;
  uint32_t readAll(uint8_t* buf, uint32_t len) { return TBufferBase::readAll(buf, len); }

 private:
  bool ReadFrame();  // false: clean end
  // Reads `len` bytes before the deadline (ns of the monotonic clock, < 0: none); returns what came before an end.
  size_t ReadBytes(uint8_t* buf, size_t len, int64_t deadline_ns);
  void WaitFor(short events, int64_t deadline_ns);

  const int fd_;
  const std::string peer_;
  int wait_ms_ = -1;
  bool open_ = true;
  bool ended_cleanly_ = false;
  std::atomic<bool> interrupted_ = false;
  std::vector<uint8_t> in_;
  std::vector<uint8_t> out_;  // the first 4 bytes are kept free for the length
};

}  // namespace weft
