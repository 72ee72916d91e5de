// SPDX-License-Identifier: MIT
//
// resv_target: an NVMe/TCP target with reservations, which the kernel's own has not before Linux 6.13. One subsystem
// with one namespace, 1, for every host that comes; it is stored in a file. What it knows of reservations goes when it
// ends, as with a storage node that loses its power. Tells on stdout who connects, what reservations are made of, and
// whose reads and writes it has refused.
//
//   resv_target ADDRESS PORT NQN UUID FILE BYTES
//
// UUID: the namespace's, 32 hex digits with or without dashes. "ready" on stdout: it can be connected to.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "tests/tools/resv_target/queue.h"
#include "tests/tools/resv_target/subsystem.h"

namespace resv {
namespace {

bool ParseUuid(std::string_view text, HostId* uuid) {
  size_t digits = 0;
  for (char c : text) {
    if (c == '-') continue;
    int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (value < 0 || digits == 2 * uuid->size()) return false;
    uint8_t& byte = (*uuid)[digits++ / 2];
    byte = static_cast<uint8_t>(byte << 4 | value);
  }
  return digits == 2 * uuid->size();
}

int Listen(const char* host, const char* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(atoi(port)));
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
      bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, SOMAXCONN) != 0)
    return -1;
  return fd;
}

int Main(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  HostId uuid{};
  if (argc != 7 || !ParseUuid(argv[4], &uuid)) {
    fprintf(stderr, "usage: resv_target ADDRESS PORT NQN UUID FILE BYTES\n");
    return 2;
  }
  uint64_t bytes = strtoull(argv[6], nullptr, 10);
  int file = open(argv[5], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
    perror(argv[5]);
    return 1;
  }
  int listener = Listen(argv[1], argv[2]);
  if (listener < 0) {
    perror(argv[1]);
    return 1;
  }
  Subsystem subsystem(argv[3], uuid, file, bytes);
  puts("ready");
  for (;;) {
    int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    int on = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::thread([&subsystem, connection] { Queue(&subsystem, connection).Run(); }).detach();
  }
}

}  // namespace
}  // namespace resv

int main(int argc, char** argv) { return resv::Main(argc, argv); }
