// SPDX-License-Identifier: MIT
#include "userland/base/run_command.h"

#include <cerrno>
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::EndsWith;
using testing::HasSubstr;

Status Shell(const std::string& script, milliseconds timeout = seconds(20)) {
  return RunCommand({"/bin/sh", "-c", script, "name", "one two"}, timeout);
}

TEST(RunCommand, StatusZeroIsSuccess) {
  EXPECT_TRUE(Shell("exit 0").ok());
  EXPECT_TRUE(Shell("[ \"$1\" = 'one two' ]").ok()) << "arguments stay as they are";
  EXPECT_TRUE(Shell("! read line").ok()) << "there is no input";
}

TEST(RunCommand, AFailureIsToldInItsOwnLastWords) {
  Status status = Shell("echo first; echo 'no such host' >&2; exit 3");
  EXPECT_EQ(status.code(), EIO);
  EXPECT_EQ(status.message(), "/bin/sh: exit status 3: no such host");
  EXPECT_EQ(Shell("exit 4").message(), "/bin/sh: exit status 4");
  EXPECT_THAT(Shell("kill -9 $$").message(), HasSubstr("signal 9"));
  EXPECT_THAT(Shell("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i + 1)); done; exit 1").message(),
              EndsWith("line 4999"))
      << "much output neither blocks it nor is kept";
}

TEST(RunCommand, WhatADaemonIgnoresItDoesNot) {
  auto before = signal(SIGPIPE, SIG_IGN);
  EXPECT_THAT(Shell("kill -PIPE $$; exit 0").message(), HasSubstr("signal 13"));
  signal(SIGPIPE, before);
}

TEST(RunCommand, WhatDoesNotEndIsKilled) {
  Status status = Shell("sleep 600 & wait", milliseconds(50));
  EXPECT_EQ(status.code(), ETIMEDOUT);
}

TEST(RunCommand, WhatItLeavesRunningIsNotWaitedFor) {
  auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(Shell("sleep 15 & exit 0").ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(10));
}

TEST(RunCommand, AFileThatIsNoProgramIsNamed) {
  Status status = RunCommand({"/no/such/program"}, seconds(1));
  EXPECT_EQ(status.code(), ENOENT);
  EXPECT_THAT(status.message(), HasSubstr("/no/such/program"));
}

}  // namespace
}  // namespace weft
