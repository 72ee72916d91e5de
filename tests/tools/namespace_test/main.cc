// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <ftw.h>
#include <grp.h>
#include <stdio.h>
#include <sys/wait.h>

#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {

std::string root_directory;

namespace {

int RemoveOne(const char* path, const struct stat*, int, struct FTW*) { return remove(path); }

}  // namespace

void RemoveTree(const std::string& path) { nftw(path.c_str(), RemoveOne, 16, FTW_DEPTH | FTW_PHYS); }

void NamespaceTest::SetUp() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  std::string directory = root_directory + "/" + info->name() + "." + std::to_string(getpid());
  umask(022);
  ASSERT_OK(mkdir(directory.c_str(), 0777));
  ASSERT_OK(chdir(directory.c_str()));
}

void NamespaceTest::TearDown() {
  std::string here;
  here.resize(4096);
  if (getcwd(here.data(), here.size()) == nullptr) return;
  here.resize(strlen(here.c_str()));
  ASSERT_OK(chdir(root_directory.c_str()));
  RemoveTree(here);
  EXPECT_ERRNO(ENOENT, access(here.c_str(), F_OK));
}

void MakeFile(const std::string& name, std::string_view contents) {
  int fd = open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
  ASSERT_GE(fd, 0) << name << ": " << strerror(errno);
  ASSERT_EQ(ssize_t(contents.size()), write(fd, contents.data(), contents.size())) << strerror(errno);
  ASSERT_OK(close(fd));
}

std::string ReadAll(const std::string& name) {
  int fd = open(name.c_str(), O_RDONLY);
  EXPECT_GE(fd, 0) << name << ": " << strerror(errno);
  std::string contents;
  char buffer[65536];
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) contents.append(buffer, n);
  close(fd);
  return contents;
}

struct stat Stat(const std::string& name) {
  struct stat st {};
  EXPECT_OK(stat(name.c_str(), &st)) << name;
  return st;
}

struct stat LStat(const std::string& name) {
  struct stat st {};
  EXPECT_OK(lstat(name.c_str(), &st)) << name;
  return st;
}

bool Exists(const std::string& name) {
  struct stat st {};
  return lstat(name.c_str(), &st) == 0;
}

std::set<std::string> List(const std::string& directory) {
  std::set<std::string> names;
  DIR* dir = opendir(directory.c_str());
  EXPECT_NE(nullptr, dir) << directory << ": " << strerror(errno);
  if (dir == nullptr) return names;
  while (struct dirent* entry = readdir(dir)) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    EXPECT_TRUE(names.insert(name).second) << name << " listed twice";
  }
  closedir(dir);
  return names;
}

std::string Repeat(char byte, size_t count) { return std::string(count, byte); }

int AsUser(uid_t uid, gid_t gid, const std::function<int()>& body) {
  pid_t child = fork();
  if (child == 0) {
    if (setgroups(0, nullptr) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) _exit(250);
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace weft::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    fprintf(stderr, "usage: %s [--gtest_...] DIRECTORY\n", argv[0]);
    return 2;
  }
  char* path = realpath(argv[1], nullptr);
  if (path == nullptr) {
    fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
    return 2;
  }
  weft::test::root_directory = path;
  free(path);
  return RUN_ALL_TESTS();
}
