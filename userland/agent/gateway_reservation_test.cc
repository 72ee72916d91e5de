// SPDX-License-Identifier: MIT
//
// Gateways of namespaces that have reservations.
#include <atomic>
#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "userland/agent/gateway.h"
#include "userland/agent/gateway_fixture.h"

namespace weft::agent {
namespace {

using nvmeof::HostId;
using nvmeof::Registrant;
using nvmeof::ReservationType;
using std::chrono::hours;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr HostId kOther{0x99};

class GatewayReservationTest : public GatewayTest {
 protected:
  GatewayReservationTest() {
    reservations_.SetSupported(true);
    AddNamespace();
  }
  ~GatewayReservationTest() override {
    gateway_ = nullptr;
    gateways_ = nullptr;
  }

  uint64_t Key(uint64_t session) const { return *nvmeof::ReservationKey(session_.cluster, session); }
  std::vector<uint64_t> Keys() const {
    std::vector<uint64_t> keys;
    for (const Registrant& registrant : reservations_.report().registrants) keys.push_back(registrant.key);
    return keys;
  }
  bool reserved() const { return reservations_.report().type == ReservationType::kExclusiveAccessAll; }
  void SetLives(const Status& lives) {
    std::lock_guard lock(kernel_->mutex);
    record_.lives = lives;
  }
  size_t asked() {
    std::lock_guard lock(kernel_->mutex);
    return record_.asked;
  }
  // The gateway looks at its paths, and then at the reservation.
  template <typename F>
  bool AwaitLooksUntil(F&& condition) {
    auto deadline = std::chrono::steady_clock::now() + SharedFabric::kPatience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline || !kernel_->AwaitLooks()) return false;
    }
    return true;
  }
  bool ToldReserved() {
    idl::TargetReport report;
    AwaitServer()->options.add_to_report(&report);
    return report.reserved;
  }
};

TEST_F(GatewayReservationTest, ItIsReservedBeforeAnythingIsReadThere) {
  options_.open_server = [this](const target::TargetServerOptions& options) {
    EXPECT_TRUE(reserved());
    EXPECT_THAT(Keys(), ElementsAre(Key(7)));
    return OpenServer(options);
  };
  Start();
  ASSERT_TRUE(AwaitUp());
  EXPECT_TRUE(ToldReserved());
  EXPECT_EQ(asked(), 2U);
}

TEST_F(GatewayReservationTest, WithoutReservationsItGoesWithout) {
  reservations_.SetSupported(false);
  Start();
  ASSERT_TRUE(AwaitUp());
  EXPECT_FALSE(ToldReserved());
  ASSERT_TRUE(kernel_->AwaitLooks());
  EXPECT_THAT(Keys(), IsEmpty());
  EXPECT_EQ(asked(), 0U);
}

TEST_F(GatewayReservationTest, EarlierSessionsAreThrownOut) {
  reservations_.Put({kOther, Key(6)});
  reservations_.Reserve(ReservationType::kExclusiveAccessAll);
  Start();
  ASSERT_TRUE(AwaitUp());
  EXPECT_THAT(Keys(), ElementsAre(Key(7)));
  EXPECT_FALSE(reservations_.MayWrite(kOther));
}

TEST_F(GatewayReservationTest, SessionsThatLiveBesideItStay) {
  session_.fence_below = 5;
  reservations_.Put({kOther, Key(6)});
  reservations_.Put({HostId{0x98}, Key(8)});
  Start();
  ASSERT_TRUE(AwaitUp());
  EXPECT_THAT(Keys(), UnorderedElementsAre(Key(6), Key(7), Key(8)));
}

TEST_F(GatewayReservationTest, AForeignReservationIsNotTouched) {
  reservations_.Put({kOther, 0x1234});
  reservations_.Reserve(ReservationType::kWriteExclusive);
  Start();
  ASSERT_TRUE(AwaitState(EBUSY, false));
  EXPECT_THAT(LastState().status.message(), HasSubstr("key 0x1234"));
  EXPECT_THAT(LastState().status.message(), HasSubstr("nvme resv-release"));
  EXPECT_TRUE(gateway_->WaitTried(std::chrono::steady_clock::now() + SharedFabric::kPatience));
  EXPECT_EQ(ServerCount(), 0U) << "its label was read";
  EXPECT_THAT(Keys(), ElementsAre(0x1234));
  reservations_.LosePower();
  EXPECT_TRUE(AwaitUp()) << "somebody has put it right";
}

TEST_F(GatewayReservationTest, ANamespaceOfAnotherLabelIsGivenBack) {
  {
    std::lock_guard lock(kernel_->mutex);
    record_.labels["/dev/test1.0"] = UuidOf(9);
  }
  options_.times.retry_min = options_.times.retry_max = hours(1);
  Start();
  ASSERT_TRUE(AwaitState(EINVAL, false));
  gateway_->Stop();
  EXPECT_THAT(Keys(), IsEmpty());
}

TEST_F(GatewayReservationTest, AfterARestartOfTheAgentNothingChanges) {
  Start();
  ASSERT_TRUE(AwaitUp());
  gateway_->Stop();
  EXPECT_THAT(Keys(), ElementsAre(Key(7))) << "the kernel still writes there";
  reservations_.TakeCommands();
  Start();
  AwaitServer(2);
  EXPECT_THAT(reservations_.TakeCommands(), IsEmpty());
  EXPECT_EQ(asked(), 2U);
}

TEST_F(GatewayReservationTest, AnUnmountGivesItUp) {
  StartAll({1});
  ASSERT_TRUE(AwaitUp());
  gateways_->Stop(true);
  EXPECT_THAT(Keys(), IsEmpty());
  EXPECT_FALSE(reserved());
}

TEST_F(GatewayReservationTest, AnUnmountLeavesTheOthersTheirs) {
  session_.fence_below = 0;
  reservations_.Put({kOther, Key(6)});
  StartAll({1});
  ASSERT_TRUE(AwaitUp());
  gateways_->Stop(true);
  EXPECT_THAT(Keys(), ElementsAre(Key(6)));
  EXPECT_TRUE(reserved());
}

TEST_F(GatewayReservationTest, ASessionThatTheServerEndedKeepsOthersOutUntilItIsUnmounted) {
  StartAll({1});
  ASSERT_TRUE(AwaitUp());
  gateways_->Stop(false);
  EXPECT_TRUE(reserved());
  EXPECT_THAT(Keys(), ElementsAre(Key(7)));
  gateways_->Stop(true);
  EXPECT_FALSE(reserved());
}

TEST_F(GatewayReservationTest, ATargetThatIsRemovedIsGivenUp) {
  StartAll({1});
  ASSERT_TRUE(AwaitUp());
  SetMap({});
  gateways_->Stop(false);
  EXPECT_THAT(Keys(), IsEmpty());
  EXPECT_FALSE(reserved());
}

TEST_F(GatewayReservationTest, GivingUpDoesNotNeedAPath) {
  StartAll({1});
  ASSERT_TRUE(AwaitUp());
  reservations_.OnCommand([](const HostId&, const std::string&) { return Error(EHOSTDOWN, "no path"); });
  gateways_->Stop(true);
  EXPECT_THAT(Keys(), ElementsAre(Key(7))) << "the next session throws it out";
}

TEST_F(GatewayReservationTest, WhoWasThrownOutStopsAndStaysOut) {
  Start();
  ASSERT_TRUE(AwaitUp());
  auto server = AwaitServer();
  SetLives(Error(ESTALE, "session 7 has ended"));
  reservations_.LosePower();
  reservations_.Put({kOther, Key(8)});
  reservations_.Reserve(ReservationType::kExclusiveAccessAll);
  ASSERT_TRUE(AwaitState(ESTALE, false)) << "the kernel may not have the device any more";
  ASSERT_TRUE(AwaitClosed(server));
  size_t before = asked();
  ASSERT_TRUE(AwaitLooksUntil([&] { return asked() > before; })) << "it may be mistaken: it asks again";
  EXPECT_THAT(Keys(), ElementsAre(Key(8)));
  EXPECT_EQ(ServerCount(), 1U);
}

TEST_F(GatewayReservationTest, WhoCannotAskDoesNotRegisterAndServesOn) {
  Start();
  ASSERT_TRUE(AwaitUp());
  ASSERT_TRUE(ToldReserved());
  SetLives(Error(ETIMEDOUT, "the metadata server does not answer"));
  reservations_.LosePower();
  ASSERT_TRUE(AwaitLooksUntil([&] { return asked() > 3; }));
  EXPECT_THAT(Keys(), IsEmpty());
  EXPECT_FALSE(ToldReserved());
  EXPECT_EQ(StateCount(), 1U);
  SetLives({});
  ASSERT_TRUE(AwaitLooksUntil([&] { return reserved(); }));
  EXPECT_THAT(Keys(), ElementsAre(Key(7)));
  ASSERT_TRUE(AwaitLooksUntil([&] { return ToldReserved(); }));
  EXPECT_EQ(ServerCount(), 1U);
}

TEST_F(GatewayReservationTest, WhoCannotAskDoesNotBegin) {
  SetLives(Error(ETIMEDOUT, "the metadata server does not answer"));
  Start();
  ASSERT_TRUE(AwaitState(ETIMEDOUT, false));
  EXPECT_THAT(Keys(), IsEmpty());
  EXPECT_EQ(ServerCount(), 0U);
  SetLives({});
  EXPECT_TRUE(AwaitUp());
}

TEST_F(GatewayReservationTest, ALateRegistrationOfAnEarlierSessionIsThrownOut) {
  Start();
  ASSERT_TRUE(AwaitUp());
  reservations_.Put({kOther, Key(6)});
  ASSERT_TRUE(AwaitLooksUntil([&] { return !reservations_.MayWrite(kOther); }));
  EXPECT_THAT(Keys(), ElementsAre(Key(7)));
  EXPECT_EQ(StateCount(), 1U);
}

TEST_F(GatewayReservationTest, AForeignerThatComesLaterStopsNobody) {
  Start();
  ASSERT_TRUE(AwaitUp());
  reservations_.Put({kOther, 0x1234});
  ASSERT_TRUE(kernel_->AwaitLooks());
  ASSERT_TRUE(kernel_->AwaitLooks());
  EXPECT_EQ(StateCount(), 1U);
  EXPECT_TRUE(ToldReserved());
}

TEST_F(GatewayReservationTest, WithoutAPathTheReservationIsNotLookedAt) {
  Start();
  ASSERT_TRUE(AwaitUp());
  kernel_->fabric.SetReachable(first_, false);
  kernel_->fabric.SetReachable(second_, false);
  ASSERT_TRUE(AwaitState(EHOSTDOWN, true));
  std::atomic<int> commands = 0;
  reservations_.OnCommand([&](const HostId&, const std::string&) {
    ++commands;
    return Status::Ok();
  });
  ASSERT_TRUE(kernel_->AwaitLooks());
  ASSERT_TRUE(kernel_->AwaitLooks());
  EXPECT_EQ(commands, 0) << "the kernel would take its time";
  kernel_->fabric.SetReachable(second_, true);
  ASSERT_TRUE(AwaitUp());
  EXPECT_TRUE(AwaitLooksUntil([&] { return commands > 0; }));
  reservations_.OnCommand({});
}

TEST_F(GatewayReservationTest, AConflictMeansThatItIsInVain) {
  Start();
  ASSERT_TRUE(AwaitUp());
  EXPECT_EQ(AwaitServer()->options.translate(-EBADE), -ESTALE);
}

TEST_F(GatewayReservationTest, ADeviceThatCannotBeAskedIsNotUsed) {
  options_.open_reservation = [](const nvmeof::Namespace&) -> Result<std::unique_ptr<nvmeof::ReservationPort>> {
    return Error(EPERM, "only root may");
  };
  Start();
  ASSERT_TRUE(AwaitState(EPERM, false));
  EXPECT_EQ(ServerCount(), 0U);
}

}  // namespace
}  // namespace weft::agent
