// SPDX-License-Identifier: MIT
#include "userland/meta/records.h"

#include <gtest/gtest.h>

namespace weft {
namespace {

TargetRecord NvmeTarget() {
  TargetRecord record;
  record.uuid.fill(1);
  record.name = "n1";
  record.host = "10.0.0.9";
  record.port = 4711;
  record.capacity_bytes = 1ULL << 40;
  record.weight = 50;
  record.zone = "r1";
  record.draining = true;
  record.instance = 0xfeedfacecafebeef;
  record.nvme = NvmeRecord{.uris = {"nvme+rdma://10.0.0.1/nqn.x?nsid=7", "nvme+rdma://10.0.1.1/nqn.x?nsid=7"},
                           .uuid = {2, 3},
                           .nguid = {4, 5},
                           .nsid = 7,
                           .data_path = DataPath::kDirect};
  return record;
}

TEST(RecordsTest, ATargetOfEitherKindComesBackAsItWas) {
  TargetRecord nvme = NvmeTarget();
  TargetRecord plain = nvme;
  plain.nvme.reset();
  for (const TargetRecord& record : {nvme, plain}) {
    TargetRecord out = nvme;  // what was in it before does not stay
    ASSERT_TRUE(TargetRecord::Decode(record.Encode(), &out));
    EXPECT_EQ(out.uuid, record.uuid);
    EXPECT_EQ(out.name, "n1");
    EXPECT_EQ(out.host, "10.0.0.9");
    EXPECT_EQ(out.port, 4711U);
    EXPECT_EQ(out.capacity_bytes, 1ULL << 40);
    EXPECT_EQ(out.weight, 50U);
    EXPECT_EQ(out.zone, "r1");
    EXPECT_TRUE(out.draining);
    EXPECT_EQ(out.instance, 0xfeedfacecafebeef);
    EXPECT_EQ(out.nvme, record.nvme);
  }
}

TEST(RecordsTest, ATruncatedTargetIsRefused) {
  std::string bytes = NvmeTarget().Encode();
  for (size_t length = 0; length < bytes.size(); ++length) {
    TargetRecord out;
    EXPECT_FALSE(TargetRecord::Decode(bytes.substr(0, length), &out)) << length << " of " << bytes.size() << " bytes";
  }
  TargetRecord out;
  EXPECT_FALSE(TargetRecord::Decode(bytes + '\0', &out)) << "something is left over";
}

TEST(RecordsTest, GarbageIsNoTarget) {
  TargetRecord plain = NvmeTarget();
  plain.nvme.reset();
  std::string bytes = plain.Encode();
  TargetRecord out;
  bytes.back() = 2;  // there is no third kind
  EXPECT_FALSE(TargetRecord::Decode(bytes, &out));

  bytes = NvmeTarget().Encode();
  bytes.back() = 3;  // no data path
  EXPECT_FALSE(TargetRecord::Decode(bytes, &out));

  size_t count_at = plain.Encode().size();
  for (const char* count : {"\xff\xff\xff\xff", "\0\0\0\3"}) {  // of paths, more than there are
    bytes = NvmeTarget().Encode();
    bytes.replace(count_at, 4, count, 4);
    EXPECT_FALSE(TargetRecord::Decode(bytes, &out));
  }
}

}  // namespace
}  // namespace weft
