// SPDX-License-Identifier: MIT
#include "userland/ctl/mount_agent.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <vector>

extern char** environ;

namespace weft {
namespace {

namespace fs = std::filesystem;

constexpr char kDevice[] = "/dev/weft";
constexpr char kLogFolder[] = "/var/log/weft";
constexpr int kReadyTimeoutMs = 60'000;
constexpr size_t kComplaintsMax = 8;

// Runs a program and waits; its exit code, -1: it could not be run or was killed.
int RunProgram(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return -1;
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool HasSystemdUnit() {
  if (!fs::exists("/run/systemd/system")) return false;
  for (const char* folder : {"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
                             "/usr/lib/systemd/system", "/lib/systemd/system"}) {
    if (fs::exists(fs::path(folder) / "weftd@.service")) return true;
  }
  return false;
}

// weftd beside this program, else from the PATH.
std::string AgentProgram() {
  std::error_code error;
  fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error && fs::exists(self.parent_path() / "weftd")) return self.parent_path() / "weftd";
  for (const char* folder : {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"}) {
    if (fs::exists(fs::path(folder) / "weftd")) return fs::path(folder) / "weftd";
  }
  return "weftd";
}

// In the daemon-to-be: never returns. What goes wrong is written to the pipe that the parent reads.
[[noreturn]] void ExecAgent(const std::vector<std::string>& words, int log_fd, int ready_fd) {
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null_fd >= 0) dup2(null_fd, STDIN_FILENO);
  dup2(log_fd, STDOUT_FILENO);
  dup2(log_fd, STDERR_FILENO);
  fcntl(ready_fd, F_SETFD, 0);  // this one it keeps
  if (chdir("/") == 0) {
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
  }
  dprintf(ready_fd, "%s: %m", words[0].c_str());
  _exit(127);
}

// Starts the agent in a session of its own, child of init.
Status Daemonize(const std::vector<std::string>& words, int log_fd, int ready_fd) {
  pid_t child = fork();
  if (child < 0) return Status::Errno(errno, "fork");
  if (child == 0) {
    setsid();
    pid_t grandchild = fork();
    if (grandchild == 0) ExecAgent(words, log_fd, ready_fd);
    _exit(grandchild < 0 ? 1 : 0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return Error(EAGAIN, "weftd could not be started: fork failed");
  return {};
}

// Ok: the agent wrote "ready". EPIPE: it ended before.
Status WaitReady(int fd) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kReadyTimeoutMs);
  std::string said;
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
    int rc = left > 0 ? poll(&wait, 1, static_cast<int>(left)) : 0;
    if (rc < 0 && errno == EINTR) continue;
    if (rc <= 0) return Error(ETIMEDOUT, "weftd is not ready after {} s", kReadyTimeoutMs / 1000);
    char buffer[256];
    ssize_t bytes = read(fd, buffer, sizeof buffer);
    if (bytes > 0) {
      said.append(buffer, static_cast<size_t>(bytes));
      if (said.starts_with("ready\n")) return {};
    } else if (bytes == 0 || errno != EINTR) {
      return Error(EPIPE, "{}", said.empty() ? "weftd ended before it was ready" : said);
    }
  }
}

Result<int> OpenLog(const std::string& cluster) {
  std::error_code error;
  fs::create_directories(kLogFolder, error);
  std::string path = AgentLogPath(cluster);
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (fd < 0) return Status::Errno(errno, path);
  return fd;
}

}  // namespace

bool AgentIsAttached(const std::string& cluster) {
  std::ifstream file(fmt::format("/sys/fs/weft/{}/agent", cluster));
  std::string state;
  return std::getline(file, state) && state == "attached";
}

Status EnsureModule() {
  if (access(kDevice, F_OK) == 0) return {};
  RunProgram({"modprobe", "-q", "weft"});
  if (access(kDevice, F_OK) == 0) return {};
  return Error(ENOENT, "{} is absent: load the kernel module first (modprobe weft, or insmod weft.ko)", kDevice);
}

Status StartAgent(const AgentStart& start) {
  if (start.config.empty() && start.meta.empty() && start.key.empty() && HasSystemdUnit()) {
    std::string unit = fmt::format("weftd@{}.service", start.cluster);
    if (RunProgram({"systemctl", "start", unit}) == 0) return {};
    return Error(EIO, "systemctl start {} failed; see journalctl -u {}", unit, unit);
  }
  std::vector<std::string> words = {AgentProgram(), "--cluster", start.cluster};
  for (const auto& [option, value] :
       {std::pair{"--config", start.config}, std::pair{"--meta", start.meta}, std::pair{"--key", start.key}}) {
    if (!value.empty()) words.insert(words.end(), {option, value});
  }
  Result<int> log_fd = OpenLog(start.cluster);
  if (!log_fd.ok()) return log_fd.status();
  int64_t log_offset = AgentLogBytes(start.cluster);
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) {
    int code = errno;
    close(*log_fd);
    return Status::Errno(code, "pipe");
  }
  words.insert(words.end(), {"--ready-fd", std::to_string(ready[1])});
  Status status = Daemonize(words, *log_fd, ready[1]);
  close(ready[1]);
  close(*log_fd);
  if (status.ok()) status = WaitReady(ready[0]);
  close(ready[0]);
  if (status.ok()) return {};
  std::string complaints = AgentComplaints(start.cluster, log_offset);
  return complaints.empty() ? status : Error(status.code(), "{}\n{}", status.message(), complaints);
}

std::string AgentLogPath(const std::string& cluster) { return fmt::format("{}/weftd-{}.log", kLogFolder, cluster); }

int64_t AgentLogBytes(const std::string& cluster) {
  std::error_code error;
  auto bytes = fs::file_size(AgentLogPath(cluster), error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

std::string AgentComplaints(const std::string& cluster, int64_t offset) {
  std::ifstream log(AgentLogPath(cluster));
  log.seekg(offset);
  std::deque<std::string> lines;
  std::string line;
  while (std::getline(log, line)) {
    // "TIME LEVEL weftd: text"; what is not of that form is an error before the log was open.
    size_t at = line.find(" weftd: ");
    bool harmless = line.find(" info weftd: ") != std::string::npos || line.find(" debug weftd: ") != std::string::npos;
    if (harmless || line.empty()) continue;
    lines.push_back("weftd: " + (at == std::string::npos ? line : line.substr(at + 8)));
    if (lines.size() > kComplaintsMax) lines.pop_front();
  }
  std::string text;
  for (const std::string& complaint : lines) text += (text.empty() ? "" : "\n") + complaint;
  return text;
}

}  // namespace weft
