// SPDX-License-Identifier: MIT
//
// weftctl fsck: the metadata against itself, the chunk maps and the grants.
#include <array>

#include <nlohmann/json.hpp>

#include "userland/ctl/command.h"
#include "userland/ctl/fsck_view.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

void FsckOptions(po::options_description_easy_init options) {
  options("repair", po::bool_switch(), "repair what can be repaired without losing more");
}

Status Fsck(const Context& context, const po::variables_map& vm) {
  idl::FsckArgs args;
  args.repair = vm["repair"].as<bool>();
  Result<idl::FsckReport> report = context.admin()->Fsck(args);
  if (!report.ok()) return report.status();
  context.Print(FsckText(*report), FsckJson(*report));
  return FsckVerdict(*report);
}

constexpr std::array kCommands = {
    Command{"fsck", "", "check the metadata while it is used; exit status 1: problems are left", FsckOptions, Fsck},
};

}  // namespace

std::span<const Command> FsckCommands() { return kCommands; }

}  // namespace weft::ctl
