// SPDX-License-Identifier: MIT
#include "userland/ctl/command.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include <nlohmann/json.hpp>

#include "userland/base/daemon.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

constexpr int kStyle = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
constexpr const char* kArguments = "arguments";  // internal name of a command's arguments

std::vector<const Command*> AllCommands() {
  std::vector<const Command*> all;
  for (std::span<const Command> group : {PoolCommands(), TargetCommands(), SessionCommands(), CopiesCommands(),
                                         FsckCommands(), BalancerCommands(), NvmeCommands(), HostCommands()}) {
    for (const Command& command : group) all.push_back(&command);
  }
  return all;
}

std::string Synopsis(const Command& command) {
  std::string text(command.words);
  if (!command.arguments.empty()) text += fmt::format(" {}", command.arguments);
  return text;
}

po::options_description GlobalOptions() {
  po::options_description options("Options");
  options.add_options()                                            //
      ("meta", po::value<std::string>()->value_name("HOST:PORT"),  //
       "metadata server; else WEFT_META of the environment, else what /etc/weft/CLUSTER.toml says, "
       "else 127.0.0.1:7470")                                                                                      //
      ("cluster", po::value<std::string>()->default_value("weft")->value_name("NAME"), "whose settings are read")  //
      ("json", po::bool_switch(), "output for programs")                                                           //
      ("help,h", po::bool_switch(), "this text; after a command: its options")                                     //
      ("version", po::bool_switch(), "weftctl's version");
  return options;
}

po::options_description OptionsOf(const Command& command) {
  po::options_description options("Options of " + std::string(command.words));
  if (command.add_options != nullptr) command.add_options(options.add_options());
  return options;
}

void PrintHelp(std::ostream& out) {
  out << "usage: weftctl [OPTIONS] COMMAND\n\n";
  auto all = AllCommands();
  size_t width = 0;
  for (const Command* command : all) width = std::max(width, Synopsis(*command).size());
  for (const Command* command : all) {
    out << fmt::format("  {:<{}}  {}\n", Synopsis(*command), width, command->summary);
  }
  out << "\n" << GlobalOptions();
}

void PrintCommandHelp(const Command& command, std::ostream& out) {
  out << fmt::format("usage: weftctl {}{}\n  {}\n\n", Synopsis(command),
                     command.add_options != nullptr ? " [OPTIONS]" : "", command.summary);
  if (command.add_options != nullptr) out << OptionsOf(command) << "\n";
  out << GlobalOptions();
}

// What the command line asks for.
struct Invocation {
  po::variables_map globals;
  const Command* command = nullptr;  // null: none was named
  po::variables_map vm;              // the command's own options and argument
};

// The command whose words `rest` starts with; removes them.
Result<const Command*> TakeCommand(std::vector<std::string>* rest) {
  std::string group;
  for (const Command* command : AllCommands()) {
    std::string_view words = command->words;
    size_t space = words.find(' ');
    std::string_view first = words.substr(0, space);
    if (rest->front() != first) continue;
    if (space == words.npos) {
      rest->erase(rest->begin());
      return command;
    }
    std::string_view second = words.substr(space + 1);
    if (rest->size() > 1 && (*rest)[1] == second) {
      rest->erase(rest->begin(), rest->begin() + 2);
      return command;
    }
    group += fmt::format("{}{}", group.empty() ? "" : ", ", second);
  }
  if (group.empty()) return Error(EINVAL, "there is no command '{}'", rest->front());
  if (rest->size() == 1) return Error(EINVAL, "'{}' must be followed by one of: {}", rest->front(), group);
  return Error(EINVAL, "'{} {}' is no command; after '{}' comes one of: {}", rest->front(), (*rest)[1], rest->front(),
               group);
}

Status CheckArguments(const Command& command, const std::vector<std::string>& arguments) {
  size_t wanted = command.arguments.empty() ? 0 : 1 + std::ranges::count(command.arguments, ' ');
  if (arguments.size() < wanted) {
    return Error(EINVAL, "'{}' needs its argument{} {}", command.words, wanted == 1 ? "" : "s", command.arguments);
  }
  if (arguments.size() > wanted && !command.arguments.ends_with("...")) {
    return Error(EINVAL, "'{}' is one argument too many for '{}'", arguments[wanted], command.words);
  }
  return {};
}

Status ParseCommandOptions(const Command& command, const std::vector<std::string>& rest, po::variables_map* vm) {
  po::options_description options = OptionsOf(command);
  po::options_description hidden;
  hidden.add_options()(kArguments, po::value<std::vector<std::string>>());
  po::options_description all;
  all.add(options).add(hidden);
  po::positional_options_description positional;
  positional.add(kArguments, -1);
  po::store(po::command_line_parser(rest).options(all).positional(positional).style(kStyle).run(), *vm);
  po::notify(*vm);
  return CheckArguments(command, Command::Arguments(*vm));
}

Result<Invocation> Parse(const std::vector<std::string>& args) {
  Invocation invocation;
  try {
    po::positional_options_description words;
    words.add("words", -1);
    po::options_description globals = GlobalOptions();
    globals.add_options()("words", po::value<std::vector<std::string>>());
    po::parsed_options parsed =
        po::command_line_parser(args).options(globals).positional(words).style(kStyle).allow_unregistered().run();
    std::vector<std::string> rest = po::collect_unrecognized(parsed.options, po::include_positional);
    std::erase_if(parsed.options, [](const po::option& o) { return o.unregistered || o.string_key == "words"; });
    po::store(parsed, invocation.globals);
    po::notify(invocation.globals);
    if (rest.empty()) return invocation;
    Result<const Command*> command = TakeCommand(&rest);
    if (!command.ok()) return command.status();
    invocation.command = *command;
    if (invocation.globals["help"].as<bool>()) return invocation;
    if (Status s = ParseCommandOptions(**command, rest, &invocation.vm); !s.ok()) return s;
  } catch (const po::error& e) {
    return Error(EINVAL, "{}", e.what());
  }
  return invocation;
}

// The metadata server: from the command line, the environment or the settings of this host.
Status FindServer(const po::variables_map& globals, Context* context) {
  context->settings_path = fmt::format("{}/{}.toml", context->world.settings_dir, globals["cluster"].as<std::string>());
  std::string source = "--meta";
  std::string meta;
  if (globals.count("meta") > 0) {
    meta = globals["meta"].as<std::string>();
  } else if (!context->world.meta.empty()) {
    source = "WEFT_META";
    meta = context->world.meta;
  } else {
    source = context->settings_path;
    agent::Settings settings;
    if (Status s = context->Settings(&settings); !s.ok()) return s;
    meta = settings.meta;
    if (meta.empty()) return {};
  }
  Result<Address> address = ParseAddress(meta, kMetaPort);
  if (!address.ok()) return address.status().Annotate(source);
  context->meta = *address;
  context->meta_given = true;
  return {};
}

int UsageError(World& world, const Status& status) {
  world.err << fmt::format("weftctl: {}\nTry `weftctl --help`.\n", status.message());
  return kExitUsage;
}

}  // namespace

void Context::Print(const std::string& text, const nlohmann::ordered_json& as_json) const {
  if (json) {
    world.out << as_json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
  } else {
    world.out << text;
  }
}

Status Context::Settings(agent::Settings* settings) const {
  Status read = agent::ReadSettings(settings_path, settings);
  return read.code() == ENOENT ? Status::Ok() : read;
}

std::vector<std::string> Command::Arguments(const po::variables_map& vm) {
  if (vm.count(kArguments) == 0) return {};
  return vm[kArguments].as<std::vector<std::string>>();
}

std::string Command::Argument(const po::variables_map& vm) { return Arguments(vm).front(); }

int RunWeftctl(const std::vector<std::string>& args, World& world) {
  Result<Invocation> invocation = Parse(args);
  if (!invocation.ok()) return UsageError(world, invocation.status());
  const po::variables_map& globals = invocation->globals;
  if (globals["version"].as<bool>()) {
    world.out << fmt::format("weftctl {}\n", kSoftwareVersion);
    return 0;
  }
  if (globals["help"].as<bool>()) {
    invocation->command != nullptr ? PrintCommandHelp(*invocation->command, world.out) : PrintHelp(world.out);
    return 0;
  }
  if (invocation->command == nullptr) return UsageError(world, Error(EINVAL, "which command?"));

  Context context{.world = world, .meta = {"127.0.0.1", kMetaPort}};
  if (Status s = FindServer(globals, &context); !s.ok()) return UsageError(world, s);
  context.json = globals["json"].as<bool>();
  Status status = invocation->command->run(context, invocation->vm);
  world.out.flush();
  if (status.ok() && world.out.fail()) status = Error(EIO, "the output could not be written");
  if (status.ok()) return 0;
  world.err << fmt::format("weftctl: {}\n", status.message());
  return context.error_status;
}

}  // namespace weft::ctl
