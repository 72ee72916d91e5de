// SPDX-License-Identifier: MIT
//
// What every name space test starts from: an empty directory on the file system under test, which is
// also the current directory, so that tests speak in short relative names. One test at a time.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <string>
#include <string_view>

namespace weft::test {

// Where to test: the program's argument.
extern std::string root_directory;

class NamespaceTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
};

// Creates NAME with these contents (fails the test when it exists).
void MakeFile(const std::string& name, std::string_view contents = "");
std::string ReadAll(const std::string& name);
struct stat Stat(const std::string& name);                 // fails the test on error
struct stat LStat(const std::string& name);                // the same, of a symbolic link itself
bool Exists(const std::string& name);                      // of the name, even when it is a dangling link
std::set<std::string> List(const std::string& directory);  // without . and ..
void RemoveTree(const std::string& path);
std::string Repeat(char byte, size_t count);

// Runs the body in a child with this uid and gid and no other group; gives its return value or -1.
int AsUser(uid_t uid, gid_t gid, const std::function<int()>& body);

}  // namespace weft::test

#define EXPECT_OK(call) EXPECT_EQ(0, (call)) << #call << ": " << strerror(errno)
#define ASSERT_OK(call) ASSERT_EQ(0, (call)) << #call << ": " << strerror(errno)
#define EXPECT_ERRNO(code, call)                                                                 \
  do {                                                                                           \
    errno = 0;                                                                                   \
    EXPECT_EQ(-1, (call)) << #call;                                                              \
    int seen_errno = errno;                                                                      \
    EXPECT_EQ(code, seen_errno) << #call << " gave " << strerrorname_np(seen_errno) << ", want " \
                                << strerrorname_np(code);                                        \
  } while (0)
