// SPDX-License-Identifier: MIT
//
// port_garbage: speaks nonsense to a framed Thrift port: every kind of frame that a broken or foreign
// peer could send. It succeeds when each attempt was taken without the server refusing new connections;
// whether the server still serves is for the caller to ask. Exit status: 0, 1 refused, 2 usage.
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr int kAnswerWaitMs = 300;

int Connect(const char* host, const char* port) {
  struct addrinfo hints {};
  hints.ai_socktype = SOCK_STREAM;
  struct addrinfo* found = nullptr;
  int error = getaddrinfo(host, port, &hints, &found);
  if (error != 0) {
    fprintf(stderr, "port_garbage: %s:%s: %s\n", host, port, gai_strerror(error));
    return -1;
  }
  int fd = socket(found->ai_family, SOCK_STREAM, 0);
  if (connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
    fprintf(stderr, "port_garbage: %s:%s: %s\n", host, port, strerror(errno));
    close(fd);
    fd = -1;
  }
  freeaddrinfo(found);
  return fd;
}

std::string Length(uint32_t bytes) {
  uint32_t network = htonl(bytes);
  return {reinterpret_cast<char*>(&network), sizeof network};
}

std::string Frame(const std::string& body) { return Length(body.size()) + body; }

std::string RandomBytes(std::mt19937& random, size_t count) {
  std::string bytes(count, 0);
  for (char& byte : bytes) byte = char(random());
  return bytes;
}

// A call of the compact protocol: protocol id 0x82, version 1 and type CALL, sequence, name, arguments.
std::string Call(const std::string& name, const std::string& arguments) {
  std::string message = {char(0x82), char(0x21), 1};
  message += char(name.size());
  return message + name + arguments;
}

std::vector<std::pair<std::string, std::string>> Attempts(std::mt19937& random) {
  std::vector<std::pair<std::string, std::string>> list = {
      {"nothing at all", ""},
      {"half a frame length", std::string("\0\0", 2)},
      {"frame of length 0", Length(0)},
      {"frame that never comes", Length(100)},
      {"frame cut short", Length(100) + "too short"},
      {"frame of 4 GiB", Length(0xffffffff) + "x"},
      {"frame of 2 GiB", Length(0x7fffffff) + RandomBytes(random, 4096)},
      {"negative frame length", Length(0x80000000) + RandomBytes(random, 64)},
      {"frame of 512 MiB", Length(512 << 20) + "x"},
      {"HTTP", "GET / HTTP/1.1\r\nHost: weft\r\n\r\n"},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) + RandomBytes(random, 200)},
      {"text", "hello, is there a file system?\n"},
      {"binary protocol", Frame(std::string("\x80\x01\x00\x01\x00\x00\x00\x07version\x00\x00\x00\x01\x00", 20))},
      {"unknown service", Frame(Call("nobody:version", std::string(1, 0)))},
      {"no service", Frame(Call("version", std::string(1, 0)))},
      {"unknown method", Frame(Call("admin:no_such_method", std::string(1, 0)))},
      {"empty name", Frame(Call("", std::string(1, 0)))},
      {"arguments cut off", Frame(Call("admin:createPool", "\x1c"))},
      {"wrong field types", Frame(Call("meta:execute", "\x18\xff\xff\xff\xff\x7f"))},
      {"string longer than the frame", Frame(Call("meta:openSession", "\x1c\x28\xff\xff\xff\xff\x07zzz"))},
      {"list of 2^31 elements", Frame(Call("meta:execute", "\x19\xfc\xff\xff\xff\xff\x07"))},
      {"deep nesting", Frame(Call("meta:execute", std::string(100000, '\x1c')))},
      {"endless integer", Frame(Call("meta:execute", "\x16" + std::string(64, '\xff')))},
      {"a reply instead of a call", Frame(std::string("\x82\x41\x01\x07version\x00", 12))},
      {"zeroes", std::string(65536, 0)},
  };
  for (int i = 0; i < 40; i++) list.emplace_back("random frame", Frame(RandomBytes(random, 1 + random() % 3000)));
  for (int i = 0; i < 20; i++) list.emplace_back("random bytes", RandomBytes(random, 1 + random() % 3000));
  const char* methods[] = {"meta:execute",     "meta:openSession",     "meta:renew",       "meta:nextEvents",
                           "admin:version",    "admin:createPool",     "admin:poolStatus", "admin:evictSession",
                           "target:heartbeat", "target:registerTarget"};
  for (const char* method : methods) {
    for (int i = 0; i < 5; i++) {
      list.emplace_back(std::string("random arguments to ") + method,
                        Frame(Call(method, RandomBytes(random, 1 + random() % 200))));
    }
  }
  return list;
}

// What the server did with it, in a word.
const char* Send(int fd, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return "dropped while sending";
    sent += n;
  }
  struct pollfd waiter {
    fd, POLLIN, 0
  };
  if (poll(&waiter, 1, kAnswerWaitMs) == 0) return "waits for more";
  char buffer[4096];
  return recv(fd, buffer, sizeof buffer, 0) > 0 ? "answered" : "dropped";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    fprintf(stderr, "usage: port_garbage HOST PORT [SEED]\n");
    return 2;
  }
  uint32_t seed = argc > 3 ? strtoul(argv[3], nullptr, 0) : 1;
  printf("port_garbage: seed %u\n", seed);
  std::mt19937 random(seed);
  std::vector<int> left_open;  // half-sent frames stay open to the end: they must not hold the server up
  for (const auto& [what, bytes] : Attempts(random)) {
    int fd = Connect(argv[1], argv[2]);
    if (fd < 0) {
      fprintf(stderr, "port_garbage: no connection before '%s'\n", what.c_str());
      return 1;
    }
    const char* answer = Send(fd, bytes);
    printf("%-40s %s\n", what.c_str(), answer);
    if (strcmp(answer, "waits for more") == 0) {
      left_open.push_back(fd);
    } else {
      close(fd);
    }
  }
  int last = Connect(argv[1], argv[2]);
  for (int fd : left_open) close(fd);
  return last < 0 ? 1 : 0;
}
