// SPDX-License-Identifier: MIT
#include "tests/tools/weft_fsx/checker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <fstream>

namespace weft::test {
namespace {

constexpr size_t kLogLinesShown = 60;
constexpr uint64_t kFullCheckEvery = 200;  // operations

std::string Format(const char* format, va_list arguments) {
  char line[400];
  vsnprintf(line, sizeof line, format, arguments);
  return line;
}

}  // namespace

Checker::Checker(const Options& options, std::string name, uint64_t seed)
    : options_(options),
      name_(std::move(name)),
      seed_(seed),
      subject_(options.directory + "/" + name_, options.direct),
      random_(seed) {
  operations_ = {
      {"read", 12, &Checker::Read, true},
      {"write", 14, &Checker::Write, true},
      {"append", 5, &Checker::Append, true},
      {"dread", 8, &Checker::DirectRead, options.direct},
      {"dwrite", 8, &Checker::DirectWrite, options.direct},
      {"mread", 8, &Checker::MappedRead, options.mmap},
      {"mwrite", 10, &Checker::MappedWrite, options.mmap},
      {"splice", 3, &Checker::SpliceRead, true},
      {"copy", 4, &Checker::CopyRange, true},
      {"truncate", 7, &Checker::Truncate, true},
      {"fallocate", 4, &Checker::Preallocate, options.fallocate},
      {"punch", 5, &Checker::PunchHole, options.fallocate},
      {"zero", 5, &Checker::ZeroRange, options.fallocate},
      {"sync", 4, &Checker::Sync, true},
      {"reopen", 2, &Checker::Reopen, true},
      {"forget", 3, &Checker::ForgetPages, true},
      {"drop", 1, &Checker::DropCaches, options.drop_caches},
      {"holes", 3, &Checker::WalkHoles, true},
  };
  std::erase_if(operations_, [](const Operation& operation) { return !operation.enabled; });
}

bool Checker::Run() {
  int result = subject_.Create();
  if (result != 0) Fail("create: %s", strerror(-result));
  std::vector<unsigned> weights;
  for (const Operation& operation : operations_) weights.push_back(operation.weight);
  std::discrete_distribution<size_t> choose(weights.begin(), weights.end());
  for (uint64_t i = 0; i < options_.operations && failure_.empty(); i++) {
    current_ = &operations_[choose(random_)];
    if (current_->enabled) (this->*current_->perform)();
    if (failure_.empty()) CheckSize();
    if (failure_.empty() && i % kFullCheckEvery == kFullCheckEvery - 1) CheckAll();
  }
  if (failure_.empty()) {
    Note("final: fsync, forget, reopen, read all");
    result = subject_.ForgetPages();
    if (result == 0) result = subject_.Reopen();
    if (result != 0) Fail("%s", strerror(-result));
  }
  if (failure_.empty()) CheckAll();
  bool saved = SaveModel();
  if (failure_.empty()) return saved;
  Report();
  return false;
}

uint64_t Checker::Below(uint64_t limit) {
  return limit == 0 ? 0 : std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_);
}

uint64_t Checker::Length() {
  switch (Below(8)) {
    case 0:
      return 1 + Below(16);
    case 1:
    case 2:
    case 3:
      return 1 + Below(2 * 4096);
    case 4:
      return 4096 * (1 + Below(32));
    case 5:
    case 6:
      return 1 + Below(128 << 10);
    default:
      return 1 + Below(1 << 20);
  }
}

Checker::Range Checker::Anywhere() {
  // Mostly near what the file has, so that files do not consist of holes.
  uint64_t reach = OneIn(10) ? options_.size_max_bytes : model_.size() + 100000;
  uint64_t offset = Below(std::min(reach, options_.size_max_bytes - 1));
  if (OneIn(4)) offset &= ~uint64_t{4095};
  return {offset, std::min(Length(), options_.size_max_bytes - offset)};
}

Checker::Range Checker::InsideFile() {
  uint64_t offset = Below(model_.size());
  if (OneIn(4)) offset &= ~uint64_t{4095};
  return {offset, std::min<uint64_t>(Length(), model_.size() - offset)};
}

Checker::Range Checker::AlignedRange() {
  Range range = Anywhere();
  range.offset &= ~(kDirectAlignBytes - 1);
  range.length = (range.length + kDirectAlignBytes - 1) & ~(kDirectAlignBytes - 1);
  range.length = std::min(range.length, options_.size_max_bytes - range.offset) & ~(kDirectAlignBytes - 1);
  return range;
}

std::vector<uint8_t> Checker::RandomBytes(uint64_t count) {
  std::vector<uint8_t> bytes(count);
  uint64_t state = random_() | 1;
  for (uint64_t i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    bytes[i] = uint8_t(state >> 32);
  }
  return bytes;
}

void Checker::Note(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  log_.push_back(Format(format, arguments));
  va_end(arguments);
  if (options_.verbose) fprintf(stderr, "%s %zu: %s\n", name_.c_str(), log_.size(), log_.back().c_str());
}

void Checker::Fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (failure_.empty()) failure_ = Format(format, arguments);
  va_end(arguments);
}

bool Checker::Unsupported(int64_t result) {
  if (result != -EOPNOTSUPP && result != -ENOSYS) return false;
  if (options_.require_all) {
    Fail("%s is not supported (%s)", current_->name, strerror(-result));
  } else {
    fprintf(stderr, "%s: %s is not supported here, left out\n", name_.c_str(), current_->name);
    current_->enabled = false;
  }
  return true;
}

void Checker::ExpectCount(int64_t result, uint64_t wanted) {
  if (result < 0) {
    Fail("error %s", strerror(-result));
  } else if (uint64_t(result) != wanted) {
    Fail("gave %#lx bytes, wanted %#lx", result, wanted);
  }
}

void Checker::Compare(uint64_t offset, const uint8_t* got, uint64_t length) {
  const uint8_t* want = model_.data() + offset;
  if (length == 0 || memcmp(got, want, length) == 0) return;
  uint64_t first = 0, last = length - 1, different = 0, zeroes = 0;
  while (got[first] == want[first]) first++;
  while (got[last] == want[last]) last--;
  for (uint64_t i = first; i <= last; i++) {
    different += got[i] != want[i];
    zeroes += got[i] == 0;
  }
  Fail("%lu bytes differ in %#lx..%#lx (%lu of the bytes read are 0); first: got %#x, want %#x", different,
       offset + first, offset + last, zeroes, got[first], want[first]);
}

void Checker::ModelWrite(uint64_t offset, const std::vector<uint8_t>& bytes) {
  if (bytes.empty()) return;
  if (offset + bytes.size() > model_.size()) model_.resize(offset + bytes.size());
  memcpy(model_.data() + offset, bytes.data(), bytes.size());
}

void Checker::ModelZero(uint64_t offset, uint64_t length) {
  if (offset >= model_.size()) return;
  memset(model_.data() + offset, 0, std::min<uint64_t>(length, model_.size() - offset));
}

void Checker::CheckSize() {
  int64_t size = subject_.Size();
  if (size != int64_t(model_.size())) Fail("size is %#lx, want %#lx", size, model_.size());
}

void Checker::CheckAll() {
  std::vector<uint8_t> bytes(1 << 20);
  for (uint64_t at = 0; at < model_.size() && failure_.empty(); at += bytes.size()) {
    uint64_t length = std::min<uint64_t>(bytes.size(), model_.size() - at);
    int64_t n = subject_.Read(at, {bytes.data(), length});
    ExpectCount(n, length);
    if (failure_.empty()) Compare(at, bytes.data(), length);
  }
}

void Checker::Report() {
  fprintf(stderr, "%s: FAILED with --seed %lu after %zu operations\n  operation: %s\n  %s\n", name_.c_str(), seed_,
          log_.size(), log_.empty() ? "-" : log_.back().c_str(), failure_.c_str());
  size_t first = log_.size() > kLogLinesShown ? log_.size() - kLogLinesShown : 0;
  for (size_t i = first; i < log_.size(); i++) fprintf(stderr, "  %5zu %s\n", i, log_[i].c_str());
  if (options_.models_directory.empty()) return;
  std::string path = options_.models_directory + "/" + name_ + ".log";
  std::ofstream out(path);
  for (const std::string& line : log_) out << line << "\n";
  fprintf(stderr, "%s: all operations are in %s, the contents wanted in %s/%s\n", name_.c_str(), path.c_str(),
          options_.models_directory.c_str(), name_.c_str());
}

bool Checker::SaveModel() {
  if (options_.models_directory.empty()) return true;
  std::string path = options_.models_directory + "/" + name_;
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(model_.data()), std::streamsize(model_.size()));
  out.close();
  if (out) return true;
  fprintf(stderr, "%s: cannot be written\n", path.c_str());
  return false;
}

}  // namespace weft::test
