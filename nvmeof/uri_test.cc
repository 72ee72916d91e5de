// SPDX-License-Identifier: MIT
#include "nvmeof/uri.h"

#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft::nvmeof {
namespace {

using testing::HasSubstr;

TEST(UriTest, Parses) {
  EXPECT_EQ(*ParseUri("nvme+rdma://10.0.0.1/nqn.2026-11.test:a"),
            (Uri{{Transport::kRdma, "10.0.0.1", 4420}, "nqn.2026-11.test:a", 0}));
  EXPECT_EQ(*ParseUri("nvme+tcp://node-1.example:8009/nqn.2014-08.org.nvmexpress:uuid:1234?nsid=7"),
            (Uri{{Transport::kTcp, "node-1.example", 8009}, "nqn.2014-08.org.nvmexpress:uuid:1234", 7}));
  EXPECT_EQ(*ParseUri("nvme+tcp://[fd00::1]:4421/nqn.x"), (Uri{{Transport::kTcp, "fd00::1", 4421}, "nqn.x", 0}));
  EXPECT_EQ(ParseUri("nvme+tcp://[fe80::1%eth0]/nqn.x")->endpoint.host, "fe80::1%eth0");
  EXPECT_EQ(ParseUri("nvme+tcp://h:65535/nqn.x?nsid=4294967294")->nsid, 4294967294);
}

TEST(UriTest, SaysItAsItIsWritten) {
  for (const char* text : {"nvme+rdma://10.0.0.1:4420/nqn.2026-11.test:a", "nvme+tcp://[fd00::1]:4421/nqn.x?nsid=3"}) {
    EXPECT_EQ(ParseUri(text)->ToString(), text);
    EXPECT_EQ(*ParseUri(ParseUri(text)->ToString()), *ParseUri(text));
  }
  EXPECT_EQ(ParseUri("nvme+rdma://10.0.0.1/nqn.x")->endpoint.ToString(), "rdma 10.0.0.1:4420");
  EXPECT_EQ(ParseUri("nvme+tcp://[::1]/nqn.x")->endpoint.ToString(), "tcp [::1]:4420");
}

TEST(UriTest, LooksLikeOne) {
  EXPECT_TRUE(LooksLikeUri("nvme+rdma://"));
  EXPECT_TRUE(LooksLikeUri("nvme+fc://"));
  EXPECT_FALSE(LooksLikeUri("10.0.0.1:7471"));
  EXPECT_FALSE(LooksLikeUri("nvme://10.0.0.1/nqn.x"));
}

struct Refusal {
  const char* text;
  const char* why;
};

TEST(UriTest, RefusalsNameWhatIsWrong) {
  const Refusal kRefusals[] = {
      {"", "does not begin with"},
      {"nvme://10.0.0.1/nqn.x", "does not begin with"},
      {"nvme+rdma:10.0.0.1/nqn.x", "does not begin with"},
      {"NVME+rdma://10.0.0.1/nqn.x", "does not begin with"},
      {"nvme+fc://10.0.0.1/nqn.x", "transport 'fc'"},
      {"nvme+RDMA://10.0.0.1/nqn.x", "transport 'RDMA'"},
      {"nvme+rdma://10.0.0.1", "NQN is missing"},
      {"nvme+rdma://10.0.0.1/", "is not an NQN"},
      {"nvme+rdma:///nqn.x", "'' is neither an address"},
      {"nvme+rdma://10.0.0.256/nqn.x", "'10.0.0.256' is neither"},
      {"nvme+rdma://a b/nqn.x", "'a b' is neither"},
      {"nvme+rdma://user@h/nqn.x", "'user@h' is neither"},
      {"nvme+rdma://fd00::1/nqn.x", "needs brackets"},
      {"nvme+rdma://[fd00::1/nqn.x", "not an IPv6 address in brackets"},
      {"nvme+rdma://[10.0.0.1]/nqn.x", "not an IPv6 address in brackets"},
      {"nvme+rdma://[fe80::1%]/nqn.x", "not an IPv6 address in brackets"},
      {"nvme+rdma://[fd00::1]4420/nqn.x", "'4420' is not a port"},
      {"nvme+rdma://h:/nqn.x", "'' is not a port"},
      {"nvme+rdma://h:0/nqn.x", "'0' is not a port"},
      {"nvme+rdma://h:04420/nqn.x", "'04420' is not a port"},
      {"nvme+rdma://h:65536/nqn.x", "'65536' is not a port"},
      {"nvme+rdma://h:44x/nqn.x", "'44x' is not a port"},
      {"nvme+rdma://h/disk", "'disk' is not an NQN"},
      {"nvme+rdma://h/nqn.", "'nqn.' is not an NQN"},
      {"nvme+rdma://h/nqn.x,tls", "must not be in it"},
      {"nvme+rdma://h/nqn.x\n", "must not be in it"},
      {"nvme+rdma://h/nqn.x/1", "must not be in it"},
      {"nvme+rdma://h/nqn.2014-08.org.nvmexpress.discovery", "no namespaces"},
      {"nvme+rdma://h/nqn.x?", "'?' is not ?nsid=N"},
      {"nvme+rdma://h/nqn.x?ns=1", "'?ns=1' is not ?nsid=N"},
      {"nvme+rdma://h/nqn.x?nsid=", "nsid '' is not"},
      {"nvme+rdma://h/nqn.x?nsid=0", "nsid '0' is not"},
      {"nvme+rdma://h/nqn.x?nsid=+1", "nsid '+1' is not"},
      {"nvme+rdma://h/nqn.x?nsid=1&x=2", "nsid '1&x=2' is not"},
      {"nvme+rdma://h/nqn.x?nsid=4294967295", "nsid '4294967295' is not"},
  };
  for (const Refusal& refusal : kRefusals) {
    Result<Uri> uri = ParseUri(refusal.text);
    ASSERT_FALSE(uri.ok()) << refusal.text;
    EXPECT_EQ(uri.status().code(), EINVAL) << refusal.text;
    EXPECT_THAT(uri.status().message(), HasSubstr(refusal.why));
    EXPECT_THAT(uri.status().message(), HasSubstr(refusal.text));
    EXPECT_THAT(uri.status().message(), HasSubstr("wanted: nvme+rdma://"));
  }
}

TEST(UriTest, NqnHasALimit) {
  std::string most = "nqn." + std::string(kNqnBytesMax - 4, 'x');
  EXPECT_TRUE(ParseUri("nvme+tcp://h/" + most).ok());
  EXPECT_THAT(ParseUri("nvme+tcp://h/" + most + "x").status().message(), HasSubstr("has 224 bytes, 223 is the most"));
}

}  // namespace
}  // namespace weft::nvmeof
