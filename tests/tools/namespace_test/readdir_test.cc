// SPDX-License-Identifier: MIT
//
// Listing directories: complete, without doubles, and stable while others change them. (Thousands of entries:
// the scenario manyfiles.)
#include <dirent.h>

#include <map>
#include <vector>

#include "tests/tools/namespace_test/fixture.h"

namespace weft::test {
namespace {

class ReaddirTest : public NamespaceTest {};

// So long that some hundred of them are more than readdir(3) asks the kernel for at once, 32 KiB.
std::string Name(int i) { return "entry-" + std::to_string(i) + "-" + Repeat('x', 200); }

void MakeMany(const std::string& directory, int first, int last) {
  for (int i = first; i < last; i++) MakeFile(directory + "/" + Name(i));
}

TEST_F(ReaddirTest, DotsTypesAndInodes) {
  ASSERT_OK(mkdir("d", 0755));
  MakeFile("f");
  ASSERT_OK(symlink("f", "s"));
  ASSERT_OK(mknod("p", S_IFIFO | 0600, 0));
  std::map<std::string, struct dirent> seen;
  DIR* dir = opendir(".");
  ASSERT_NE(nullptr, dir);
  while (struct dirent* entry = readdir(dir)) seen[entry->d_name] = *entry;
  closedir(dir);
  ASSERT_EQ(6u, seen.size());
  EXPECT_EQ(Stat(".").st_ino, seen.at(".").d_ino);
  EXPECT_EQ(Stat("..").st_ino, seen.at("..").d_ino);
  EXPECT_EQ(Stat("d").st_ino, seen.at("d").d_ino);
  EXPECT_EQ(Stat("f").st_ino, seen.at("f").d_ino);
  const std::pair<const char*, int> types[] = {{"d", DT_DIR}, {"f", DT_REG}, {"s", DT_LNK}, {"p", DT_FIFO}};
  for (auto [name, type] : types) EXPECT_EQ(type, seen.at(name).d_type) << name;
}

TEST_F(ReaddirTest, DeleteWhileListing) {
  ASSERT_OK(mkdir("d", 0755));
  MakeMany("d", 0, 400);
  std::set<std::string> seen;
  DIR* dir = opendir("d");
  ASSERT_NE(nullptr, dir);
  while (struct dirent* entry = readdir(dir)) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    EXPECT_TRUE(seen.insert(name).second) << name << " listed twice";
    ASSERT_OK(unlink(("d/" + name).c_str())) << name;
  }
  closedir(dir);
  EXPECT_EQ(400u, seen.size());
  EXPECT_OK(rmdir("d"));
}

TEST_F(ReaddirTest, CreateAndDeleteOthersWhileListing) {
  ASSERT_OK(mkdir("d", 0755));
  MakeMany("d", 0, 300);
  std::set<std::string> seen;
  DIR* dir = opendir("d");
  ASSERT_NE(nullptr, dir);
  int step = 0;
  while (struct dirent* entry = readdir(dir)) {
    EXPECT_TRUE(seen.insert(entry->d_name).second) << entry->d_name << " listed twice";
    ASSERT_LT(step, 5000) << "the listing does not end";
    // Odd entries come and go; even ones stay and must all be seen.
    if (step < 150) {
      EXPECT_OK(unlink(("d/" + Name(2 * step + 1)).c_str()));
      MakeFile("d/new-" + std::to_string(step));
    }
    step++;
  }
  closedir(dir);
  for (int i = 0; i < 300; i += 2) EXPECT_EQ(1u, seen.count(Name(i))) << Name(i) << " stayed but was not listed";
}

TEST_F(ReaddirTest, RemovedAfterOpenIsNotFatal) {
  ASSERT_OK(mkdir("d", 0755));
  DIR* dir = opendir("d");
  ASSERT_NE(nullptr, dir);
  ASSERT_OK(rmdir("d"));
  while (readdir(dir) != nullptr) {
  }
  closedir(dir);
}

TEST_F(ReaddirTest, TellAndSeek) {
  ASSERT_OK(mkdir("d", 0755));
  MakeMany("d", 0, 300);
  DIR* dir = opendir("d");
  ASSERT_NE(nullptr, dir);
  std::vector<std::pair<long, std::string>> places;  // cookie before the entry, the entry
  for (;;) {
    long place = telldir(dir);
    struct dirent* entry = readdir(dir);
    if (entry == nullptr) break;
    places.emplace_back(place, entry->d_name);
  }
  ASSERT_EQ(302u, places.size());
  for (size_t i = 0; i < places.size(); i += 7) {
    size_t at = (i * 37) % places.size();
    seekdir(dir, places[at].first);
    struct dirent* entry = readdir(dir);
    ASSERT_NE(nullptr, entry);
    EXPECT_EQ(places[at].second, entry->d_name) << "after seekdir to place " << at;
  }
  // A cookie outlives the entries around it.
  seekdir(dir, places[150].first);
  for (size_t i = 60; i < 240; i++) {
    if (i != 150 && places[i].second[0] != '.') {
      ASSERT_OK(unlink(("d/" + places[i].second).c_str()));
    }
  }
  closedir(dir);
  dir = opendir("d");
  seekdir(dir, places[150].first);
  struct dirent* entry = readdir(dir);
  ASSERT_NE(nullptr, entry);
  EXPECT_EQ(places[150].second, entry->d_name);
  closedir(dir);
}

TEST_F(ReaddirTest, RewindSeesChanges) {
  ASSERT_OK(mkdir("d", 0755));
  MakeMany("d", 0, 10);
  DIR* dir = opendir("d");
  ASSERT_NE(nullptr, dir);
  while (readdir(dir) != nullptr) {
  }
  MakeFile("d/later");
  ASSERT_OK(unlink(("d/" + Name(3)).c_str()));
  rewinddir(dir);
  std::set<std::string> seen;
  while (struct dirent* entry = readdir(dir)) seen.insert(entry->d_name);
  closedir(dir);
  EXPECT_EQ(1u, seen.count("later"));
  EXPECT_EQ(0u, seen.count(Name(3)));
  EXPECT_EQ(12u, seen.size());
}

TEST_F(ReaddirTest, TwoReaders) {
  ASSERT_OK(mkdir("d", 0755));
  MakeMany("d", 0, 200);
  DIR* a = opendir("d");
  DIR* b = opendir("d");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  int count_a = 0, count_b = 0;
  while (readdir(a) != nullptr) {
    count_a++;
    if (count_a % 2 == 0 && readdir(b) != nullptr) count_b++;
  }
  while (readdir(b) != nullptr) count_b++;
  EXPECT_EQ(202, count_a);
  EXPECT_EQ(202, count_b);
  closedir(a);
  closedir(b);
}

}  // namespace
}  // namespace weft::test
