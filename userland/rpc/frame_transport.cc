// SPDX-License-Identifier: MIT
#include "userland/rpc/frame_transport.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <fmt/format.h>

namespace weft {
namespace {

using apache::thrift::TConfiguration;
using apache::thrift::transport::TTransportException;

constexpr size_t kHeaderBytes = 4;
constexpr size_t kOutBytes = 4096;

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

int64_t DeadlineNs(int ms) { return ms < 0 ? -1 : NowNs() + ms * 1'000'000LL; }

}  // namespace

FrameTransport::FrameTransport(int fd, std::string peer)
    : TVirtualTransport(std::make_shared<TConfiguration>(kFrameBytesMax, kFrameBytesMax)),
      fd_(fd),
      peer_(std::move(peer)),
      out_(kOutBytes) {
  setReadBuffer(in_.data(), 0);
  setWriteBuffer(out_.data() + kHeaderBytes, static_cast<uint32_t>(out_.size() - kHeaderBytes));
}

FrameTransport::~FrameTransport() { ::close(fd_); }

void FrameTransport::Interrupt() {
  interrupted_ = true;
  shutdown(fd_, SHUT_RDWR);
}

void FrameTransport::Drain() { shutdown(fd_, SHUT_RD); }

// The descriptor itself stays until the destructor, so that Interrupt never meets a reused number.
void FrameTransport::close() {
  if (open_) shutdown(fd_, SHUT_RDWR);
  open_ = false;
}

void FrameTransport::WaitFor(short events, int64_t deadline_ns) {
  for (;;) {
    int timeout_ms = -1;
    if (deadline_ns >= 0) {
      int64_t left_ns = deadline_ns - NowNs();
      if (left_ns <= 0) throw TTransportException(TTransportException::TIMED_OUT, "timed out");
      timeout_ms = static_cast<int>((left_ns + 999'999) / 1'000'000);
    }
    pollfd waiter{fd_, events, 0};
    int ready = poll(&waiter, 1, timeout_ms);
    if (ready > 0) return;
    if (ready < 0 && errno != EINTR) throw TTransportException(TTransportException::UNKNOWN, "poll", errno);
  }
}

size_t FrameTransport::ReadBytes(uint8_t* buf, size_t len, int64_t deadline_ns) {
  size_t got = 0;
  while (got < len) {
    ssize_t n = recv(fd_, buf + got, len - got, MSG_DONTWAIT);
    if (interrupted_) throw TTransportException(TTransportException::INTERRUPTED, "interrupted");
    if (n > 0) {
      got += static_cast<size_t>(n);
    } else if (n == 0) {
      return got;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      WaitFor(POLLIN, deadline_ns);
    } else if (errno != EINTR) {
      throw TTransportException(TTransportException::NOT_OPEN, strerror(errno), errno);
    }
  }
  return got;
}

bool FrameTransport::ReadFrame() {
  if (!open_) throw TTransportException(TTransportException::NOT_OPEN, "not connected");
  resetConsumedMessageSize();
  uint32_t header = 0;
  auto* p = reinterpret_cast<uint8_t*>(&header);
  if (ReadBytes(p, 1, DeadlineNs(wait_ms_)) == 0) {
    ended_cleanly_ = true;
    return false;
  }
  int64_t deadline_ns = DeadlineNs(kTransferMs);
  if (ReadBytes(p + 1, kHeaderBytes - 1, deadline_ns) < kHeaderBytes - 1) {
    throw TTransportException(TTransportException::END_OF_FILE, "connection ended inside a frame's length");
  }
  uint32_t size = ntohl(header);
  if (size == 0 || size > static_cast<uint32_t>(kFrameBytesMax)) {
    throw TTransportException(
        TTransportException::CORRUPTED_DATA,
        fmt::format("frame length {} is not 1..{}: is the peer speaking Thrift with framed transport?", size,
                    kFrameBytesMax));
  }
  size_t got = 0;
  while (got < size) {
    size_t step = std::min<size_t>(size - got, kFrameStepBytes);
    if (in_.size() < got + step) in_.resize(got + step);
    size_t n = ReadBytes(in_.data() + got, step, deadline_ns);
    got += n;
    if (n < step) {
      throw TTransportException(TTransportException::END_OF_FILE,
                                fmt::format("connection ended after {} of {} bytes of a frame", got, size));
    }
  }
  setReadBuffer(in_.data(), size);
  resetConsumedMessageSize(size);
  return true;
}

uint32_t FrameTransport::readSlow(uint8_t* buf, uint32_t len) {
  uint32_t have = static_cast<uint32_t>(rBound_ - rBase_);
  if (have > 0) {
    // Never read across the end of a frame: a message is one frame.
    throw TTransportException(TTransportException::CORRUPTED_DATA, "message is longer than its frame");
  }
  if (!ReadFrame()) return 0;
  uint32_t give = std::min(len, static_cast<uint32_t>(rBound_ - rBase_));
  memcpy(buf, rBase_, give);
  rBase_ += give;
  return give;
}

const uint8_t* FrameTransport::borrowSlow(uint8_t*, uint32_t*) { return nullptr; }

uint32_t FrameTransport::readEnd() {
  auto left = rBound_ - rBase_;
  auto size = static_cast<uint32_t>(rBound_ - in_.data());
  if (in_.size() > kFrameKeepBytes) {
    in_.resize(kFrameKeepBytes);
    in_.shrink_to_fit();
  }
  setReadBuffer(in_.data(), 0);
  resetConsumedMessageSize();
  if (left != 0) {
    throw TTransportException(TTransportException::CORRUPTED_DATA,
                              fmt::format("{} bytes follow the message in its frame", left));
  }
  return size;
}

void FrameTransport::writeSlow(const uint8_t* buf, uint32_t len) {
  size_t used = static_cast<size_t>(wBase_ - out_.data());
  size_t need = used + len;
  if (need > kHeaderBytes + kFrameBytesMax) {
    setWriteBuffer(out_.data() + kHeaderBytes, static_cast<uint32_t>(out_.size() - kHeaderBytes));
    throw TTransportException(TTransportException::BAD_ARGS,
                              fmt::format("message of more than {} bytes is not sent", kFrameBytesMax));
  }
  out_.resize(std::max(need, out_.size() * 2));
  wBase_ = out_.data() + used;
  wBound_ = out_.data() + out_.size();
  memcpy(wBase_, buf, len);
  wBase_ += len;
}

void FrameTransport::flush() {
  size_t bytes = static_cast<size_t>(wBase_ - out_.data());
  setWriteBuffer(out_.data() + kHeaderBytes, static_cast<uint32_t>(out_.size() - kHeaderBytes));
  if (bytes == kHeaderBytes) return;
  if (!open_) throw TTransportException(TTransportException::NOT_OPEN, "not connected");
  uint32_t size = htonl(static_cast<uint32_t>(bytes - kHeaderBytes));
  memcpy(out_.data(), &size, kHeaderBytes);
  int64_t deadline_ns = DeadlineNs(kTransferMs);
  size_t sent = 0;
  while (sent < bytes) {
    ssize_t n = send(fd_, out_.data() + sent, bytes - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (interrupted_) throw TTransportException(TTransportException::INTERRUPTED, "interrupted");
    if (n >= 0) {
      sent += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      WaitFor(POLLOUT, deadline_ns);
    } else if (errno != EINTR) {
      throw TTransportException(TTransportException::NOT_OPEN, strerror(errno), errno);
    }
  }
  if (out_.size() > kFrameKeepBytes) {
    out_.resize(kOutBytes);
    out_.shrink_to_fit();
    setWriteBuffer(out_.data() + kHeaderBytes, static_cast<uint32_t>(out_.size() - kHeaderBytes));
  }
}

}  // namespace weft
