// SPDX-License-Identifier: MIT
#include "userland/channel/channel.h"

#include <poll.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include <gtest/gtest.h>

#include "userland/channel/fake_kernel.h"

namespace weft::channel {
namespace {

AttachOptions Options(uint32_t queues = 1) {
  return {.cluster = "weft", .queues = queues, .depth = 0, .pool_bytes = 0};
}

weft_sqe Sqe(uint64_t tag) {
  weft_sqe sqe = {};
  sqe.tag = tag;
  sqe.op = WEFT_OP_FLUSH;
  return sqe;
}

weft_cqe Cqe(const Channel& channel, uint64_t tag, int32_t result = 0) {
  weft_cqe cqe = {};
  cqe.tag = tag;
  cqe.epoch = channel.epoch();
  cqe.result = result;
  return cqe;
}

TEST(ChannelTest, AttachLearnsTheGeometry) {
  FakeKernel kernel({.depth = 128, .pool_bytes = 16 << 20, .session = 7, .epoch = 3});
  auto channel = Channel::Attach(&kernel, Options(2));
  ASSERT_TRUE(channel.ok()) << channel.status().message();
  EXPECT_EQ((*channel)->epoch(), 3u);
  EXPECT_EQ((*channel)->depth(), 128u);
  EXPECT_EQ((*channel)->session(), 7u);
  EXPECT_EQ((*channel)->client()[0], 1);
  EXPECT_EQ((*channel)->pool().size(), 16u << 20);
  EXPECT_EQ((*channel)->queue_count(), 2u);
  EXPECT_FALSE(kernel.ready());
  EXPECT_TRUE((*channel)->Ready().ok());
  EXPECT_TRUE(kernel.ready());
  *channel = nullptr;
  EXPECT_EQ(kernel.open_fds(), 0u);
}

TEST(ChannelTest, AttachErrorsNameTheRemedy) {
  FakeKernel busy({.attach_error = EBUSY});
  Status s = Channel::Attach(&busy, Options()).status();
  EXPECT_EQ(s.code(), EBUSY);
  EXPECT_EQ(s.message(), "cluster \"weft\" is served by another weftd on this host");
  EXPECT_EQ(busy.open_fds(), 0u);

  FakeKernel pinned({.attach_error = EAGAIN});
  EXPECT_EQ(Channel::Attach(&pinned, Options()).status().code(), EAGAIN);
  FakeKernel old({.attach_error = EPROTO});
  EXPECT_EQ(Channel::Attach(&old, Options()).status().code(), EPROTO);

  FakeKernel fine;
  EXPECT_EQ(Channel::Attach(&fine, {.cluster = std::string(64, 'x')}).status().code(), EINVAL);
  EXPECT_EQ(Channel::Attach(&fine, {.cluster = ""}).status().code(), EINVAL);
  EXPECT_EQ(Channel::Attach(&fine, Options(WEFT_QUEUES_MAX + 1)).status().code(), EINVAL);
}

TEST(ChannelTest, TargetsReachTheKernel) {
  FakeKernel kernel;
  auto channel = Channel::Attach(&kernel, Options());
  ASSERT_TRUE(channel.ok());
  weft_target_info info = {};
  info.id = 4;
  info.state = WEFT_TARGET_UP;
  strcpy(info.name, "t4");
  EXPECT_TRUE((*channel)->SetTargets({&info, 1}).ok());
  ASSERT_EQ(kernel.targets().size(), 1u);
  EXPECT_STREQ(kernel.targets()[0].name, "t4");
  info.state = 9;
  EXPECT_EQ((*channel)->SetTargets({&info, 1}).code(), EINVAL);
}

TEST(QueueTest, RequestsAndCompletionsWrapAround) {
  FakeKernel kernel({.depth = 4});
  auto channel = Channel::Attach(&kernel, Options());
  ASSERT_TRUE(channel.ok());
  Queue* queue = (*channel)->queue(0);
  uint64_t tag = 1;
  for (int round = 0; round < 10; ++round) {
    for (uint64_t i = 0; i < 3; ++i) kernel.Push(0, Sqe(tag + i));
    weft_sqe sqes[8];
    ASSERT_EQ(queue->Take(sqes), 3u);
    weft_cqe cqes[3];
    for (uint64_t i = 0; i < 3; ++i) {
      EXPECT_EQ(sqes[i].tag, tag + i);
      cqes[i] = Cqe(**channel, tag + i, static_cast<int32_t>(i));
    }
    ASSERT_TRUE(queue->Complete(cqes).ok());
    for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(kernel.WaitFor(tag + i), static_cast<int32_t>(i));
    tag += 3;
  }
  EXPECT_EQ(kernel.complete_calls(), 10u);
}

TEST(QueueTest, TakeIsLimitedByItsBuffer) {
  FakeKernel kernel;
  auto channel = Channel::Attach(&kernel, Options());
  ASSERT_TRUE(channel.ok());
  for (uint64_t tag = 1; tag <= 5; ++tag) kernel.Push(0, Sqe(tag));
  weft_sqe sqes[3];
  EXPECT_EQ((*channel)->queue(0)->Take(sqes), 3u);
  EXPECT_TRUE((*channel)->queue(0)->HasSubmissions());
  EXPECT_EQ((*channel)->queue(0)->Take(sqes), 2u);
  EXPECT_FALSE((*channel)->queue(0)->HasSubmissions());
}

TEST(QueueTest, WakeUpOnlyWhenAnnounced) {
  FakeKernel kernel;
  auto channel = Channel::Attach(&kernel, Options());
  ASSERT_TRUE(channel.ok());
  Queue* queue = (*channel)->queue(0);
  kernel.Push(0, Sqe(1));
  EXPECT_EQ(kernel.wakeups(), 0u);
  EXPECT_FALSE(queue->Arm()) << "must not sleep on a ring that is not empty";
  queue->Disarm();
  weft_sqe sqes[4];
  EXPECT_EQ(queue->Take(sqes), 1u);
  ASSERT_TRUE(queue->Arm());
  std::thread pusher([&] { kernel.Push(0, Sqe(2)); });
  pollfd wait = {.fd = queue->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&wait, 1, 20000), 1);
  pusher.join();
  queue->Disarm();
  EXPECT_EQ(kernel.wakeups(), 1u);
  EXPECT_EQ(queue->Take(sqes), 1u);
}

TEST(QueueTest, RefusedCompletionsAreReported) {
  FakeKernel kernel({.depth = 4});
  auto channel = Channel::Attach(&kernel, Options());
  ASSERT_TRUE(channel.ok());
  Queue* queue = (*channel)->queue(0);
  kernel.Push(0, Sqe(1));
  weft_cqe cqes[] = {Cqe(**channel, 99), Cqe(**channel, 1)};
  EXPECT_EQ(queue->Complete(cqes).code(), EINVAL);
  EXPECT_EQ(kernel.WaitFor(1), 0) << "the good one is done all the same";
  EXPECT_EQ(kernel.bad_completions(), 1u);
  std::vector<weft_cqe> many(5, Cqe(**channel, 2));
  EXPECT_EQ(queue->Complete(many).code(), ENOSPC);
}

}  // namespace
}  // namespace weft::channel
