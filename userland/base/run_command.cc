// SPDX-License-Identifier: MIT
#include "userland/base/run_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "userland/base/descriptor.h"

namespace weft {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr size_t kOutputMax = 4096;  // the end of it

// In a group of its own, with signals as any program expects them: what is ignored here (SIGPIPE) would be there, too.
Result<pid_t> Spawn(const std::vector<std::string>& command, int output) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  pid_t child = 0;
  int error = posix_spawn(&child, arguments[0], &actions, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return Status::Errno(error, command.front());
  return child;
}

std::string LastLine(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

enum class ReadResult { kSome, kNone, kEnd };

ReadResult Read(int fd, std::string* output) {
  char bytes[1024];
  ssize_t count = read(fd, bytes, sizeof bytes);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return ReadResult::kNone;
  if (count <= 0) return ReadResult::kEnd;
  output->append(bytes, static_cast<size_t>(count));
  if (output->size() > kOutputMax) output->erase(0, output->size() - kOutputMax);
  return ReadResult::kSome;
}

// False: it still runs at the deadline.
bool AwaitEnd(int child_fd, int output_fd, SteadyClock::time_point deadline, std::string* output) {
  for (;;) {
    pollfd fds[] = {{.fd = child_fd, .events = POLLIN, .revents = 0},
                    {.fd = output_fd, .events = POLLIN, .revents = 0}};
    auto left = std::chrono::ceil<milliseconds>(deadline - SteadyClock::now()).count();
    int ready = poll(fds, std::size(fds), static_cast<int>(std::max<int64_t>(left, 0)));
    if (ready == 0) return false;
    if (ready < 0) continue;  // EINTR
    if (fds[1].revents != 0 && Read(output_fd, output) == ReadResult::kEnd) output_fd = -1;
    if (fds[0].revents != 0) return true;
  }
}

}  // namespace

Status RunCommand(const std::vector<std::string>& command, milliseconds timeout) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Status::Errno(errno, "pipe");
  Descriptor output(ends[0]);
  Result<pid_t> child = 0;
  {
    Descriptor write_end(ends[1]);
    child = Spawn(command, write_end.get());
  }
  if (!child.ok()) return child.status();
  Descriptor ended(static_cast<int>(syscall(SYS_pidfd_open, *child, 0)));
  std::string printed;
  bool in_time = ended.get() >= 0 && AwaitEnd(ended.get(), output.get(), SteadyClock::now() + timeout, &printed);
  if (!in_time) kill(-*child, SIGKILL);
  int status = 0;
  while (waitpid(*child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) return Error(ETIMEDOUT, "{}: did not end within {} ms", command.front(), timeout.count());
  // What it printed last may have come with its end; what it has started may live on and hold the pipe.
  fcntl(output.get(), F_SETFL, O_NONBLOCK);
  while (Read(output.get(), &printed) == ReadResult::kSome) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  std::string said = printed.empty() ? "" : ": " + LastLine(printed);
  if (WIFSIGNALED(status)) return Error(EIO, "{}: ended by signal {}{}", command.front(), WTERMSIG(status), said);
  return Error(EIO, "{}: exit status {}{}", command.front(), WEXITSTATUS(status), said);
}

}  // namespace weft
