// SPDX-License-Identifier: MIT
//
// weftctl set copies, get copies: how many copies the new data of files and directories gets.
#include <fts.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <memory>

#include <nlohmann/json.hpp>

#include "kmod/uapi/weft.h"
#include "userland/ctl/command.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

using Visit = std::function<Status(const std::string& path)>;

void RecursiveOptions(po::options_description_easy_init options) {
  options("recursive,R", po::bool_switch(), "and the files and directories below, of the same file system");
}

// Calls `visit` for files and directories at and below `root`; symbolic links below it are not followed.
Status Walk(const std::string& root, const Visit& visit) {
  char* const roots[] = {const_cast<char*>(root.c_str()), nullptr};
  std::unique_ptr<FTS, decltype(&fts_close)> walk(
      fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR | FTS_XDEV, nullptr), fts_close);
  if (walk == nullptr) return Status::Errno(errno, root);
  for (;;) {
    errno = 0;
    const FTSENT* entry = fts_read(walk.get());
    if (entry == nullptr) return errno == 0 ? Status::Ok() : Status::Errno(errno, root);
    switch (entry->fts_info) {
      case FTS_D:
      case FTS_F:
        if (Status s = visit(entry->fts_path); !s.ok()) return s;
        break;
      case FTS_DNR:
      case FTS_ERR:
      case FTS_NS:
        return Status::Errno(entry->fts_errno, entry->fts_path);
      default:
        break;
    }
  }
}

Status ForEach(const std::vector<std::string>& paths, bool recursive, const Visit& visit) {
  for (const std::string& path : paths) {
    if (Status s = recursive ? Walk(path, visit) : visit(path); !s.ok()) return s;
  }
  return {};
}

Status SetCopies(const Context& context, const po::variables_map& vm) {
  std::vector<std::string> arguments = Command::Arguments(vm);
  const std::string& text = arguments.front();
  uint32_t copies = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), copies);
  if (error != std::errc() || end != text.data() + text.size() || copies < 1 || copies > WEFT_COPIES_MAX) {
    return Error(EINVAL, "'{}' copies: it takes 1 to {}", text, WEFT_COPIES_MAX);
  }
  int64_t changed = 0;
  Status status =
      ForEach({arguments.begin() + 1, arguments.end()}, vm["recursive"].as<bool>(), [&](const std::string& path) {
        Status s = context.world.set_copies(path, copies);
        if (s.ok()) ++changed;
        return s;
      });
  if (!status.ok()) {
    return changed == 0 ? status : Error(status.code(), "{}; {} were set before it", status.message(), changed);
  }
  context.Print("", {{"copies", copies}, {"changed", changed}});
  return {};
}

Status GetCopies(const Context& context, const po::variables_map& vm) {
  std::string text;
  auto json = nlohmann::ordered_json::array();
  Status status = ForEach(Command::Arguments(vm), vm["recursive"].as<bool>(), [&](const std::string& path) -> Status {
    Result<uint32_t> copies = context.world.get_copies(path);
    if (!copies.ok()) return copies.status();
    text += fmt::format("{}  {}\n", *copies, path);
    json.push_back({{"path", path}, {"copies", *copies}});
    return {};
  });
  if (!status.ok()) return status;
  context.Print(text, json);
  return {};
}

constexpr std::array kCommands = {
    Command{"set copies", "N PATH...",
            "copies of what is written from now on, inherited by what is made in a directory", RecursiveOptions,
            SetCopies},
    Command{"get copies", "PATH...", "how many copies new data gets there", RecursiveOptions, GetCopies},
};

}  // namespace

std::span<const Command> CopiesCommands() { return kCommands; }

}  // namespace weft::ctl
