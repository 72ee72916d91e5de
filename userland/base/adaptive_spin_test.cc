// SPDX-License-Identifier: MIT
#include "userland/base/adaptive_spin.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

using std::chrono::microseconds;

class AdaptiveSpinTest : public ::testing::Test {
 protected:
  // The thread sleeps once its budget is spent and is woken `quiet` after its last work.
  void SleepUntil(microseconds quiet) {
    now_ += quiet;
    spin_.Woke(now_);
  }

  AdaptiveSpin spin_{microseconds(400)};
  AdaptiveSpin::Time now_{std::chrono::seconds(1000)};
};

TEST_F(AdaptiveSpinTest, LooksForTheWholeTimeAtFirst) {
  spin_.Worked(now_);
  EXPECT_TRUE(spin_.KeepLooking(now_ + microseconds(399)));
  EXPECT_FALSE(spin_.KeepLooking(now_ + microseconds(400)));
}

TEST_F(AdaptiveSpinTest, RareWorkEndsTheLooking) {
  spin_.Worked(now_);
  for (int i = 0; i < 5; i++) SleepUntil(microseconds(100000));
  EXPECT_EQ(spin_.budget(), microseconds(0));
  EXPECT_FALSE(spin_.KeepLooking(now_));
}

TEST_F(AdaptiveSpinTest, FrequentWorkBringsItBack) {
  spin_.Worked(now_);
  for (int i = 0; i < 5; i++) SleepUntil(microseconds(100000));
  for (int i = 0; i < 5; i++) SleepUntil(microseconds(300));
  EXPECT_EQ(spin_.budget(), microseconds(400));
}

TEST_F(AdaptiveSpinTest, NothingIsNothing) {
  AdaptiveSpin none{microseconds(0)};
  none.Worked(now_);
  EXPECT_FALSE(none.KeepLooking(now_));
  none.Woke(now_ + microseconds(1));
  none.Woke(now_ + microseconds(1));
  EXPECT_FALSE(none.KeepLooking(now_ + microseconds(1)));
}

}  // namespace
}  // namespace weft
