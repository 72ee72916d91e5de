// SPDX-License-Identifier: MIT
#include "nvmeof/reservation.h"

#include <cerrno>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nvmeof/fake_reservation.h"

namespace weft::nvmeof {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr uint32_t kFold = 0x04040404;

class ReservationTest : public testing::Test {
 protected:
  ReservationTest() {
    std::iota(cluster_.begin(), cluster_.end(), 0);
    std::iota(cluster_.begin(), cluster_.begin() + 4, 4);  // else its words fold to 0
  }

  static HostId Host(uint8_t number) {
    HostId host{};
    host.fill(number);
    return host;
  }
  static uint64_t Key(uint64_t session) { return uint64_t{kFold} << 32 | session; }

  // The session's, whose host has the same number.
  Reservation Make(uint8_t session, uint64_t fence_below) {
    return {ns_.PortOf(Host(session)),
            "namespace 1 of nqn.x",
            {.cluster = cluster_, .session = session, .fence_below = fence_below},
            [this] {
              ++asked_;
              if (on_ask_) on_ask_();
              return lives_;
            }};
  }
  Reservation Make(uint8_t session) { return Make(session, session); }
  Status Hold(uint8_t session) { return Make(session).Hold().status(); }
  std::vector<uint64_t> Keys() const {
    std::vector<uint64_t> keys;
    for (const Registrant& registrant : ns_.report().registrants) keys.push_back(registrant.key);
    return keys;
  }
  // Once, in front of the next command of this kind.
  void Before(const std::string& wanted, std::function<void()> what) {
    ns_.OnCommand([this, wanted, what](const HostId&, const std::string& command) {
      if (command != wanted) return Status::Ok();
      ns_.OnCommand({});
      what();
      return Status::Ok();
    });
  }

  Uuid cluster_{};
  FakeReservations ns_;
  Status lives_;
  std::function<void()> on_ask_;
  int asked_ = 0;
};

TEST_F(ReservationTest, KeysAreOfTheClusterAndTheSession) {
  EXPECT_EQ(*ReservationKey(cluster_, 7), Key(7));
  EXPECT_TRUE(IsOfCluster(Key(7), cluster_));
  EXPECT_EQ(SessionOf(Key(7)), 7U);
  Uuid other = cluster_;
  other[15] ^= 1;
  EXPECT_FALSE(IsOfCluster(Key(7), other));
  EXPECT_FALSE(IsOfCluster(7, cluster_));
  Uuid even{};
  even.fill(9);
  EXPECT_EQ(*ReservationKey(even, 7), uint64_t{1} << 32 | 7) << "a key without a mark would be anybody's";
  EXPECT_EQ(*ReservationKey(cluster_, UINT32_MAX), Key(UINT32_MAX));
  EXPECT_EQ(ReservationKey(cluster_, uint64_t{1} << 32).status().code(), EOVERFLOW);
}

TEST_F(ReservationTest, TheFirstSessionRegistersAndReserves) {
  Reservation reservation = Make(1);
  auto changes = reservation.Hold();
  ASSERT_TRUE(changes.ok()) << changes.status().message();
  EXPECT_TRUE(changes->registered);
  EXPECT_TRUE(changes->reserved);
  EXPECT_THAT(changes->thrown_out, IsEmpty());
  EXPECT_EQ(ns_.report().type, ReservationType::kExclusiveAccessAll);
  EXPECT_THAT(ns_.report().registrants, ElementsAre(Registrant{Host(1), Key(1)}));
  EXPECT_TRUE(ns_.MayWrite(Host(1)));
  EXPECT_FALSE(ns_.MayWrite(Host(2)));
  EXPECT_EQ(asked_, 2);
}

TEST_F(ReservationTest, WhatIsSoIsLeftAlone) {
  Reservation reservation = Make(1);
  ASSERT_TRUE(reservation.Hold().ok());
  ns_.TakeCommands();
  asked_ = 0;
  auto changes = reservation.Hold();
  ASSERT_TRUE(changes.ok());
  EXPECT_TRUE(changes->none());
  EXPECT_THAT(ns_.TakeCommands(), IsEmpty());
  EXPECT_EQ(asked_, 0) << "nobody need be asked: it was not thrown out";
}

TEST_F(ReservationTest, AnAgentThatIsStartedAnewFindsItsRegistration) {
  ASSERT_TRUE(Hold(1).ok());
  ns_.TakeCommands();
  ASSERT_TRUE(Hold(1).ok());
  EXPECT_THAT(ns_.TakeCommands(), IsEmpty());
}

TEST_F(ReservationTest, ALaterSessionThrowsEarlierOnesOut) {
  ASSERT_TRUE(Make(1, 0).Hold().ok());
  ASSERT_TRUE(Make(2, 0).Hold().ok());
  Reservation third = Make(3);
  auto changes = third.Hold();
  ASSERT_TRUE(changes.ok());
  EXPECT_THAT(changes->thrown_out, UnorderedElementsAre(1, 2));
  EXPECT_FALSE(changes->reserved) << "it was never let go in between";
  EXPECT_THAT(Keys(), ElementsAre(Key(3)));
  EXPECT_FALSE(ns_.MayWrite(Host(1)));
  EXPECT_FALSE(ns_.MayWrite(Host(2)));
}

TEST_F(ReservationTest, SessionsFromTheBoundOnStay) {
  for (uint8_t session : {1, 2, 3}) ASSERT_TRUE(Make(session, 0).Hold().ok());
  ASSERT_TRUE(Make(4, 2).Hold().ok());
  EXPECT_THAT(Keys(), UnorderedElementsAre(Key(2), Key(3), Key(4)));
  ASSERT_TRUE(Make(2, 2).Hold().ok());
  EXPECT_THAT(Keys(), UnorderedElementsAre(Key(2), Key(3), Key(4)));
}

TEST_F(ReservationTest, TheSameHostTakesItsNextKey) {
  ASSERT_TRUE(Hold(1).ok());
  ns_.Put({Host(5), Key(3)});  // left over from its life before
  ns_.TakeCommands();
  ASSERT_TRUE(Hold(5).ok());
  EXPECT_THAT(ns_.TakeCommands(), ElementsAre("replace 0x404040400000005", "preempt 0x404040400000001"));
  EXPECT_THAT(Keys(), ElementsAre(Key(5)));
}

TEST_F(ReservationTest, AnEarlierSessionOfThisHostDoesNotTakeTheKeyOfALaterOne) {
  ns_.Put({Host(1), Key(2)});
  EXPECT_EQ(Hold(1).code(), ESTALE);
  EXPECT_THAT(Keys(), ElementsAre(Key(2)));
  EXPECT_EQ(asked_, 0);
}

TEST_F(ReservationTest, WhoWasThrownOutAndHasEndedDoesNotComeBack) {
  Reservation first = Make(1);
  ASSERT_TRUE(first.Hold().ok());
  ASSERT_TRUE(Hold(2).ok());
  lives_ = Error(ESTALE, "session 1 has ended");
  ns_.TakeCommands();
  EXPECT_EQ(first.Hold().status().code(), ESTALE);
  EXPECT_THAT(ns_.TakeCommands(), IsEmpty());
  EXPECT_FALSE(ns_.MayWrite(Host(1)));
}

TEST_F(ReservationTest, NobodyToAskMeansNo) {
  lives_ = Error(ETIMEDOUT, "the metadata server does not answer");
  EXPECT_EQ(Hold(1).code(), ETIMEDOUT);
  EXPECT_THAT(Keys(), IsEmpty());
}

TEST_F(ReservationTest, WhoEndsWhileItRegistersTakesItBack) {
  ASSERT_TRUE(Hold(2).ok());
  on_ask_ = [this] {
    if (asked_ == 3 + 1) lives_ = Error(ESTALE, "session 1 has ended");  // after two of session 2 and the first here
  };
  EXPECT_EQ(Hold(1).code(), ESTALE);
  EXPECT_THAT(ns_.TakeCommands(), ElementsAre(HasSubstr("register"), HasSubstr("reserve"), "register 0x404040400000001",
                                              "unregister 0x404040400000001"));
  EXPECT_THAT(Keys(), ElementsAre(Key(2)));
}

TEST_F(ReservationTest, WhoEndsWhileItRegistersAndCannotTakeItBackSaysSo) {
  ASSERT_TRUE(Hold(2).ok());
  on_ask_ = [this] {
    if (asked_ == 3 + 1) lives_ = Error(ESTALE, "session 1 has ended");
  };
  ns_.OnCommand([](const HostId&, const std::string& command) {
    return command == "unregister" ? Error(EHOSTDOWN, "no path") : Status::Ok();
  });
  Status s = Hold(1);
  EXPECT_EQ(s.code(), ESTALE);
  EXPECT_THAT(s.message(), HasSubstr("keeps the key of session 1 (no path)"));
  // the one that lives looks at it now and then
  ns_.OnCommand({});
  lives_ = Status::Ok();
  ASSERT_TRUE(Hold(2).ok());
  EXPECT_THAT(Keys(), ElementsAre(Key(2)));
}

TEST_F(ReservationTest, ALateRegistrationIsThrownOutAtTheNextLook) {
  Reservation second = Make(2);
  ASSERT_TRUE(second.Hold().ok());
  ns_.Put({Host(1), Key(1)});
  ASSERT_TRUE(ns_.MayWrite(Host(1)));
  auto changes = second.Hold();
  ASSERT_TRUE(changes.ok());
  EXPECT_THAT(changes->thrown_out, ElementsAre(1));
  EXPECT_FALSE(changes->registered);
  EXPECT_FALSE(ns_.MayWrite(Host(1)));
}

TEST_F(ReservationTest, APowerLossThatForgotEverythingIsMadeGood) {
  Reservation second = Make(2);
  ASSERT_TRUE(second.Hold().ok());
  ns_.LosePower();
  EXPECT_TRUE(ns_.MayWrite(Host(1))) << "until somebody looks";
  auto changes = second.Hold();
  ASSERT_TRUE(changes.ok());
  EXPECT_TRUE(changes->registered);
  EXPECT_TRUE(changes->reserved);
  EXPECT_FALSE(ns_.MayWrite(Host(1)));
  EXPECT_EQ(asked_, 4) << "whether it lives";
}

TEST_F(ReservationTest, ForeignKeysAreLeftAlone) {
  ns_.Put({Host(9), 0xabcdef});
  ns_.Reserve(ReservationType::kWriteExclusive);
  Status s = Hold(1);
  EXPECT_EQ(s.code(), EBUSY);
  EXPECT_THAT(s.message(), HasSubstr("namespace 1 of nqn.x is used by others"));
  EXPECT_THAT(s.message(), HasSubstr("0xabcdef"));
  EXPECT_THAT(s.message(), HasSubstr("09090909-"));
  EXPECT_THAT(s.message(), HasSubstr("write exclusive"));
  EXPECT_THAT(s.message(), HasSubstr("nvme resv-release"));
  ns_.Reserve(ReservationType::kNone);
  EXPECT_EQ(Hold(1).code(), EBUSY) << "it would be let in by our reservation";
  EXPECT_THAT(ns_.TakeCommands(), IsEmpty());
}

TEST_F(ReservationTest, AForeignerThatComesLaterIsTold) {
  Reservation first = Make(1);
  ASSERT_TRUE(first.Hold().ok());
  ns_.Put({Host(9), 0xabcdef});
  EXPECT_EQ(first.Hold().status().code(), EBUSY);
  EXPECT_TRUE(ns_.MayWrite(Host(1)));
}

TEST_F(ReservationTest, AnotherTypeOfReservationIsRefused) {
  ns_.Put({Host(1), Key(1)});
  ns_.Reserve(ReservationType::kExclusiveAccess);
  Status s = Hold(1);
  EXPECT_EQ(s.code(), EBUSY);
  EXPECT_THAT(s.message(), HasSubstr("reserved by others: exclusive access;"));
}

TEST_F(ReservationTest, TwoThatTakeOverAtOnceAgree) {
  ASSERT_TRUE(Hold(1).ok());
  // Session 3 is through before session 2 has registered; then 2 is told that it has ended.
  Before("register", [this] { ASSERT_TRUE(Hold(3).ok()); });
  ASSERT_TRUE(Make(2, 2).Hold().ok());
  EXPECT_THAT(Keys(), UnorderedElementsAre(Key(3), Key(2))) << "3 is above the bound of 2";
  ASSERT_TRUE(Hold(3).ok());
  EXPECT_THAT(Keys(), ElementsAre(Key(3)));
}

TEST_F(ReservationTest, WhoIsThrownOutWhileItThrowsOutAsksAgain) {
  ASSERT_TRUE(Hold(1).ok());
  Before("preempt", [this] {
    ASSERT_TRUE(Hold(3).ok());  // throws out 1 and 2
    lives_ = Error(ESTALE, "session 2 has ended");
  });
  EXPECT_EQ(Hold(2).code(), ESTALE);
  EXPECT_THAT(Keys(), ElementsAre(Key(3)));
}

TEST_F(ReservationTest, AKeyThatHasGoneMeanwhileIsNoError) {
  ASSERT_TRUE(Hold(1).ok());
  Before("preempt", [this] { ASSERT_TRUE(Make(1).Release().ok()); });
  ASSERT_TRUE(Hold(2).ok());
  EXPECT_THAT(Keys(), ElementsAre(Key(2)));
  EXPECT_EQ(ns_.report().type, ReservationType::kExclusiveAccessAll);
}

TEST_F(ReservationTest, TheReservationThatSomebodyElseWasFasterToMakeIsOurs) {
  Before("reserve", [this] { ASSERT_TRUE(Make(3, 0).Hold().ok()); });
  ASSERT_TRUE(Hold(2).ok());
  EXPECT_THAT(Keys(), UnorderedElementsAre(Key(2), Key(3)));
  EXPECT_EQ(ns_.report().type, ReservationType::kExclusiveAccessAll);
}

TEST_F(ReservationTest, EndlessConflictsAreGivenUp) {
  int reports = 0;
  ns_.OnCommand([&](const HostId&, const std::string& command) {
    if (command == "report") ++reports;
    return command == "register" ? Error(EBADE, "conflict") : Status::Ok();
  });
  EXPECT_EQ(Hold(1).code(), EAGAIN);
  EXPECT_GT(reports, 2);
  EXPECT_LT(reports, 100);
}

TEST_F(ReservationTest, SomebodyWhoRemovesUsAllTheTimeIsGivenUpOn) {
  ns_.OnCommand([&](const HostId&, const std::string& command) {
    if (command == "report") ns_.LosePower();
    return Status::Ok();
  });
  EXPECT_EQ(Hold(1).code(), EAGAIN);
}

TEST_F(ReservationTest, ErrorsOfThePathAreSaid) {
  for (const char* failing : {"report", "register", "reserve"}) {
    ns_.LosePower();
    ns_.OnCommand([&](const HostId&, const std::string& command) {
      return command == failing ? Error(EHOSTDOWN, "no path") : Status::Ok();
    });
    EXPECT_EQ(Hold(1).code(), EHOSTDOWN) << failing;
  }
}

TEST_F(ReservationTest, WhoLeavesUnregistersAndTheLastOneLeavesNothing) {
  ASSERT_TRUE(Make(1, 0).Hold().ok());
  ASSERT_TRUE(Make(2, 0).Hold().ok());
  ASSERT_TRUE(Make(1).Release().ok());
  EXPECT_EQ(ns_.report().type, ReservationType::kExclusiveAccessAll);
  EXPECT_FALSE(ns_.MayWrite(Host(1)));
  ASSERT_TRUE(Make(2).Release().ok());
  EXPECT_EQ(ns_.report().type, ReservationType::kNone);
  EXPECT_THAT(Keys(), IsEmpty());
  EXPECT_TRUE(Make(2).Release().ok()) << "it is out, which is what was wanted";
}

TEST_F(ReservationTest, WhoWasThrownOutLeavesInPeace) {
  Reservation first = Make(1);
  ASSERT_TRUE(first.Hold().ok());
  ASSERT_TRUE(Hold(2).ok());
  EXPECT_TRUE(first.Release().ok());
  EXPECT_THAT(Keys(), ElementsAre(Key(2)));
}

TEST_F(ReservationTest, ANamespaceMayBeAddedUnlessSomebodyElseUsesIt) {
  auto check = [&](uint8_t host) { return CheckUnreserved(ns_.PortOf(Host(host)).get(), "namespace 1", cluster_); };
  EXPECT_TRUE(check(1).ok());
  ASSERT_TRUE(Hold(1).ok());
  EXPECT_TRUE(check(1).ok()) << "one more path to what is in the pool";
  Status s = check(2);
  EXPECT_EQ(s.code(), EBUSY);
  EXPECT_THAT(s.message(), HasSubstr("reserved by this cluster, for session 1"));
  ns_.Put({Host(9), 0xabcdef});
  s = check(1);
  EXPECT_EQ(s.code(), EBUSY);
  EXPECT_THAT(s.message(), HasSubstr("key 0xabcdef of host 09090909-"));
  ns_.SetSupported(false);
  EXPECT_TRUE(check(1).ok());
}

TEST_F(ReservationTest, AReservationWithoutRegistrantsIsSomebodysToo) {
  ns_.Reserve(ReservationType::kWriteExclusive);
  Status s = CheckUnreserved(ns_.PortOf(Host(1)).get(), "namespace 1", cluster_);
  EXPECT_EQ(s.code(), EBUSY);
  EXPECT_THAT(s.message(), HasSubstr("write exclusive"));
}

}  // namespace
}  // namespace weft::nvmeof
