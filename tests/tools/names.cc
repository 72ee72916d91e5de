// SPDX-License-Identifier: MIT
//
// names: processes that make, rename, link and remove names, as fast as the file system allows.
//   work DIR WORKERS COUNT     each its own names in one directory; leaves kept-WORKER-I with contents "WORKER-I"
//   fight DIR WORKERS COUNT    all the same names: of each, exactly one mkdir and one link may succeed
//   once DIR COUNT             a fixed order of operations; one that is done twice, or not at all, shows
//   rename DIR FROM TO COUNT   renames FROM0 .. to TO0 ..
// Exit status: 0, 1 something is wrong, 2 usage.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <vector>

namespace {

constexpr int kSyncEvery = 20;

// False, with words, unless the call gave 0.
bool Done(int result, const std::string& what) {
  if (result == 0) return true;
  fprintf(stderr, "names: %s: %s\n", what.c_str(), strerror(errno));
  return false;
}

bool WriteFile(const std::string& name, const std::string& contents, int flags) {
  int fd = open(name.c_str(), O_CREAT | O_WRONLY | flags, 0644);
  if (fd < 0) return Done(-1, "open " + name);
  bool good = write(fd, contents.data(), contents.size()) == ssize_t(contents.size());
  if (!good) Done(-1, "write " + name);
  return Done(close(fd), "close " + name) && good;
}

// Runs body(0) .. body(workers - 1) in processes of their own.
bool InProcesses(int workers, const std::function<bool(int)>& body) {
  std::vector<pid_t> children;
  for (int worker = 0; worker < workers; worker++) {
    pid_t child = fork();
    if (child == 0) _exit(body(worker) ? 0 : 1);
    if (child < 0) return Done(-1, "fork");
    children.push_back(child);
  }
  bool good = true;
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  return good;
}

bool Work(int workers, int count) {
  return InProcesses(workers, [count](int worker) {
    std::string mine = std::to_string(worker) + "-";
    for (int i = 0; i < count; i++) {
      std::string number = mine + std::to_string(i);
      std::string gone = "gone-" + mine;
      if (!WriteFile("new-" + number, number, O_EXCL) || !Done(link(("new-" + number).c_str(), gone.c_str()), "link") ||
          !Done(rename(("new-" + number).c_str(), ("kept-" + number).c_str()), "rename") ||
          !Done(unlink(gone.c_str()), "unlink") || !Done(mkdir(gone.c_str(), 0755), "mkdir") ||
          !Done(rmdir(gone.c_str()), "rmdir")) {
        return false;
      }
    }
    return true;
  });
}

bool Fight(int workers, int count) {
  size_t bytes = 2 * count * sizeof(std::atomic<int>);
  void* shared = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return Done(-1, "mmap");
  auto* made = static_cast<std::atomic<int>*>(shared);
  auto* linked = made + count;
  if (!WriteFile("prize", "prize", 0)) return false;
  bool good = InProcesses(workers, [made, linked, count](int) {
    for (int i = 0; i < count; i++) {
      std::string number = std::to_string(i);
      if (mkdir(("fight-" + number).c_str(), 0755) == 0) {
        made[i]++;
      } else if (errno != EEXIST) {
        return Done(-1, "mkdir fight-" + number);
      }
      if (link("prize", ("link-" + number).c_str()) == 0) {
        linked[i]++;
      } else if (errno != EEXIST) {
        return Done(-1, "link link-" + number);
      }
    }
    return true;
  });
  for (int i = 0; i < count; i++) {
    if (made[i] == 1 && linked[i] == 1) continue;
    fprintf(stderr, "names: fight-%d was made %d times, link-%d %d times\n", i, made[i].load(), i, linked[i].load());
    good = false;
  }
  struct stat st {};
  if (stat("prize", &st) != 0 || st.st_nlink != nlink_t(count) + 1) {
    fprintf(stderr, "names: prize has %lu links, want %d\n", static_cast<unsigned long>(st.st_nlink), count + 1);
    good = false;
  }
  return good;
}

bool Once(int count) {
  if (!WriteFile("anchor", "", 0)) return false;
  int log = open("log", O_CREAT | O_WRONLY | O_APPEND, 0644);
  if (log < 0) return Done(-1, "open log");
  for (int i = 0; i < count; i++) {
    std::string n = std::to_string(i);
    std::string line = n + "\n";
    if (!Done(mkdir(("d" + n).c_str(), 0755), "mkdir d" + n) ||
        !Done(link("anchor", ("l" + n).c_str()), "link l" + n) ||
        !Done(rename(("d" + n).c_str(), ("e" + n).c_str()), "rename d" + n) ||
        !Done(rmdir(("e" + n).c_str()), "rmdir e" + n) ||
        !Done(renameat2(AT_FDCWD, ("l" + n).c_str(), AT_FDCWD, ("m" + n).c_str(), RENAME_NOREPLACE), "rename l" + n) ||
        !Done(unlink(("m" + n).c_str()), "unlink m" + n) || !WriteFile("x" + n, n, O_EXCL)) {
      return false;
    }
    if (write(log, line.data(), line.size()) != ssize_t(line.size())) return Done(-1, "append to log");
    if (i % kSyncEvery == 0 && !Done(fsync(log), "fsync log")) return false;
  }
  struct stat st {};
  if (stat("anchor", &st) != 0 || st.st_nlink != 1) {
    fprintf(stderr, "names: anchor has %lu links, want 1\n", static_cast<unsigned long>(st.st_nlink));
    return false;
  }
  return Done(close(log), "close log");
}

bool Rename(const std::string& from, const std::string& to, int count) {
  for (int i = 0; i < count; i++) {
    std::string n = std::to_string(i);
    if (!Done(rename((from + n).c_str(), (to + n).c_str()), "rename " + from + n)) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::string mode = argc > 2 ? argv[1] : "";
  if (mode.empty() || !Done(chdir(argv[2]), argv[2])) {
    fprintf(stderr, "usage: names work|fight DIR WORKERS COUNT | once DIR COUNT | rename DIR FROM TO COUNT\n");
    return 2;
  }
  if (mode == "work" && argc == 5) return Work(atoi(argv[3]), atoi(argv[4])) ? 0 : 1;
  if (mode == "fight" && argc == 5) return Fight(atoi(argv[3]), atoi(argv[4])) ? 0 : 1;
  if (mode == "once" && argc == 4) return Once(atoi(argv[3])) ? 0 : 1;
  if (mode == "rename" && argc == 6) return Rename(argv[3], argv[4], atoi(argv[5])) ? 0 : 1;
  fprintf(stderr, "names: wrong arguments for '%s'\n", mode.c_str());
  return 2;
}
