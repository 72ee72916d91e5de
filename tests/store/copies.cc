// SPDX-License-Identifier: MIT
//
// The copies of every chunk, read from the targets' devices themselves. Everything is stopped, or `--data` is
// a copy of the store, taken while nothing was written.
//
//   copies check --data DIR [--copies N] DEVICE...
//       Compares the copies in sync of each chunk, in all blocks that belong to files. Each chunk with such
//       blocks has N copies in sync, by default as many as it is to have. Exit status 1: something differs,
//       chunk, block and targets are named; or there was nothing to compare.
//   copies locate --data DIR --ino N [--block N] DEVICE...
//       Where block N of a file is, one line for each copy: TARGET STATE DEVICE OFFSET_BYTES
#include <cstdio>
#include <iostream>

#include <boost/program_options.hpp>

#include "tests/store/pool_map.h"

namespace weft {
namespace {

namespace po = boost::program_options;

constexpr uint64_t kPieceBlocks = 256;
constexpr size_t kLinesMax = 20;

const char* StateName(CopyState state) {
  switch (state) {
    case CopyState::kInSync:
      return "in-sync";
    case CopyState::kStale:
      return "stale";
    case CopyState::kResyncing:
      return "resyncing";
  }
  return "unknown";
}

// chunk -> which of its blocks hold data of files
using UsedBlocks = std::map<uint64_t, std::vector<bool>>;

Result<UsedBlocks> FindUsed(PoolMap* map) {
  UsedBlocks used;
  const uint64_t chunk_blocks = map->pool().chunk_blocks;
  Status s = map->Scan('E', [&](std::string_view key, std::string_view value) {
    uint64_t ino = 0, last = 0;
    Extent extent;
    if (!key::Parse(key, &ino, &last) || !Extent::Decode(last, value, &extent)) return false;
    if (extent.unwritten) return true;
    for (uint64_t block = extent.pool_block; block < extent.pool_block + extent.blocks; block++) {
      std::vector<bool>& bits = used[block / chunk_blocks];
      if (bits.empty()) bits.resize(chunk_blocks);
      bits[block % chunk_blocks] = true;
    }
    return true;
  });
  if (!s.ok()) return s;
  return used;
}

class Checker {
 public:
  Checker(PoolMap* map, uint32_t copies_wanted) : map_(*map), copies_wanted_(copies_wanted) {}

  void CheckChunk(uint64_t index, const std::vector<bool>& used) {
    auto it = map_.chunks().find(index);
    if (it == map_.chunks().end()) {
      Complain(Status(ENOENT, fmt::format("files use chunk {}, which does not exist", index)));
      return;
    }
    chunks_++;
    std::vector<Copy> in_sync;
    for (const Copy& copy : it->second.copies) {
      if (copy.state == CopyState::kInSync) {
        in_sync.push_back(copy);
      } else {
        Complain(
            Error(EIO, "chunk {}: its copy on {} is {}", index, map_.TargetName(copy.target), StateName(copy.state)));
      }
    }
    size_t wanted = copies_wanted_ > 0 ? copies_wanted_ : it->second.copies_wanted;
    if (in_sync.size() < wanted) {
      Complain(Error(EIO, "chunk {}: {} copies in sync instead of {}", index, in_sync.size(), wanted));
    }
    for (uint64_t piece = 0; piece < used.size(); piece += kPieceBlocks) ComparePiece(index, in_sync, used, piece);
  }

  bool Report() const {
    std::cout << fmt::format("{} chunks, {} blocks of files, read {} times in all: {} differences\n", chunks_, blocks_,
                             reads_, complaints_);
    if (reads_ <= blocks_) std::cout << "nothing was compared: no block of a file has two copies in sync\n";
    return complaints_ == 0 && reads_ > blocks_;
  }

 private:
  void ComparePiece(uint64_t index, const std::vector<Copy>& copies, const std::vector<bool>& used, uint64_t from) {
    const uint64_t end = std::min<uint64_t>(from + kPieceBlocks, used.size());
    uint64_t blocks = static_cast<uint64_t>(std::count(used.begin() + from, used.begin() + end, true));
    if (blocks == 0) return;
    blocks_ += blocks;
    std::vector<uint8_t> first, other;
    for (const Copy& copy : copies) {
      std::vector<uint8_t>* into = first.empty() ? &first : &other;
      if (!Read(index, copy, from, end, into)) return;
      reads_ += blocks;
      if (into == &first) continue;
      for (uint64_t block = from; block < end; block++) {
        size_t at = (block - from) * kBlockBytes;
        if (!used[block] || std::memcmp(first.data() + at, other.data() + at, kBlockBytes) == 0) continue;
        Complain(Error(EIO, "chunk {} block {}: {} (offset {}) and {} (offset {}) differ", index, block,
                       map_.TargetName(copies[0].target), map_.DeviceOffset(copies[0], block * kBlockBytes),
                       map_.TargetName(copy.target), map_.DeviceOffset(copy, block * kBlockBytes)));
      }
    }
  }

  bool Read(uint64_t index, const Copy& copy, uint64_t from, uint64_t end, std::vector<uint8_t>* into) {
    const PoolMap::Device* device = map_.DeviceOf(copy.target);
    if (device == nullptr) {
      Complain(Error(ENODEV, "chunk {}: none of the devices is that of {}", index, map_.TargetName(copy.target)));
      return false;
    }
    into->resize((end - from) * kBlockBytes);
    auto offset = static_cast<off_t>(map_.DeviceOffset(copy, from * kBlockBytes));
    ssize_t got = pread(device->fd, into->data(), into->size(), offset);
    if (got == static_cast<ssize_t>(into->size())) return true;
    Complain(Status::Errno(got < 0 ? errno : EIO, fmt::format("{} at {}", device->path, offset)));
    return false;
  }

  void Complain(const Status& what) {
    complaints_++;
    if (complaints_ <= kLinesMax) std::cout << what.message() << '\n';
  }

  PoolMap& map_;
  const uint32_t copies_wanted_;
  uint64_t chunks_ = 0, blocks_ = 0, reads_ = 0, complaints_ = 0;
};

Result<bool> Check(PoolMap* map, const po::variables_map& vm) {
  Result<UsedBlocks> used = FindUsed(map);
  if (!used.ok()) return used.status();
  Checker checker(map, vm["copies"].as<uint32_t>());
  for (const auto& [index, bits] : *used) checker.CheckChunk(index, bits);
  return checker.Report();
}

Result<bool> Locate(PoolMap* map, const po::variables_map& vm) {
  if (vm.count("ino") == 0) return Error(EINVAL, "locate needs --ino");
  const auto ino = vm["ino"].as<uint64_t>(), block = vm["block"].as<uint64_t>();
  const uint64_t chunk_blocks = map->pool().chunk_blocks;
  std::optional<Extent> found;
  Status s = map->store().Scan(key::Extent(ino, block), key::Extent(ino + 1, 0),
                               [&](std::string_view key, std::string_view value) {
                                 uint64_t owner = 0, last = 0;
                                 Extent extent;
                                 if (key::Parse(key, &owner, &last) && Extent::Decode(last, value, &extent))
                                   found = extent;
                                 return false;
                               });
  if (!s.ok()) return s;
  if (!found || found->first > block) return Error(ENOENT, "inode {} has no block {}", ino, block);
  const uint64_t pool_block = found->pool_block + (block - found->first);
  auto chunk = map->chunks().find(pool_block / chunk_blocks);
  if (chunk == map->chunks().end()) return Error(ENOENT, "pool block {} is in no chunk", pool_block);
  for (const Copy& copy : chunk->second.copies) {
    const PoolMap::Device* device = map->DeviceOf(copy.target);
    std::cout << fmt::format("{} {} {} {}\n", map->TargetName(copy.target), StateName(copy.state),
                             device != nullptr ? device->path : "-",
                             device != nullptr ? map->DeviceOffset(copy, pool_block % chunk_blocks * kBlockBytes) : 0);
  }
  return true;
}

int Main(int argc, char** argv) {
  po::options_description options;
  options.add_options()                                              //
      ("command", po::value<std::string>()->required())              //
      ("data", po::value<std::string>()->required())                 //
      ("device", po::value<std::vector<std::string>>()->required())  //
      ("copies", po::value<uint32_t>()->default_value(0))            //
      ("ino", po::value<uint64_t>())                                 //
      ("block", po::value<uint64_t>()->default_value(0));
  po::positional_options_description positions;
  positions.add("command", 1).add("device", -1);
  po::variables_map vm;
  try {
    po::store(po::command_line_parser(argc, argv).options(options).positional(positions).run(), vm);
    po::notify(vm);
  } catch (const po::error& e) {
    std::cerr << "copies: " << e.what() << '\n';
    return 2;
  }
  const auto& command = vm["command"].as<std::string>();
  if (command != "check" && command != "locate") {
    std::cerr << "copies: '" << command << "' is neither check nor locate\n";
    return 2;
  }
  Result<PoolMap> map = PoolMap::Open(vm["data"].as<std::string>(), vm["device"].as<std::vector<std::string>>());
  Result<bool> good = map.ok() ? (command == "check" ? Check(&*map, vm) : Locate(&*map, vm)) : map.status();
  if (!good.ok()) {
    std::cerr << "copies: " << good.status().message() << '\n';
    return 2;
  }
  return *good ? 0 : 1;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main(argc, argv); }
