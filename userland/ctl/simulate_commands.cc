// SPDX-License-Identifier: MIT
#include "userland/ctl/simulate_commands.h"

#include <cerrno>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "userland/balancer/simulator.h"
#include "userland/balancer/trace_file.h"
#include "userland/balancer/trace_recorder.h"
#include "userland/base/daemon.h"
#include "userland/ctl/simulate_view.h"

namespace weft::ctl {
namespace {

namespace po = boost::program_options;

constexpr uint32_t kSecondsMax = 3600;
constexpr uint32_t kServersMax = 1024;
constexpr uint32_t kDepthMax = 65536;
constexpr double kFactorMin = 0.001;
constexpr double kFactorMax = 10'000;

Status CheckRange(std::string_view option, uint32_t value, uint32_t min, uint32_t max) {
  if (value >= min && value <= max) return {};
  return Error(EINVAL, "--{} {} is not {} to {}", option, value, min, max);
}

// "TARGET=FACTOR"
Status AddSlow(const std::string& text, std::map<std::string, double>* slow) {
  size_t equals = text.rfind('=');
  double factor = 0;
  bool valid = equals != text.npos && equals > 0;
  if (valid) {
    const char* end = text.data() + text.size();
    auto [parsed, error] = std::from_chars(text.data() + equals + 1, end, factor);
    valid = error == std::errc() && parsed == end && factor >= kFactorMin && factor <= kFactorMax;
  }
  if (!valid) {
    return Error(EINVAL, "--slow '{}' is not TARGET=FACTOR with a factor from {} to {}, as in target2=10", text,
                 kFactorMin, kFactorMax);
  }
  (*slow)[text.substr(0, equals)] = factor;
  return {};
}

Result<balancer::SimulationOptions> ReadOptions(const po::variables_map& vm) {
  balancer::SimulationOptions options;
  options.model.servers = vm["servers"].as<uint32_t>();
  if (Status s = CheckRange("servers", options.model.servers, 1, kServersMax); !s.ok()) return s;
  options.depth = vm["depth"].as<uint32_t>();
  if (Status s = CheckRange("depth", options.depth, 0, kDepthMax); !s.ok()) return s;
  options.model.seed = vm["seed"].as<uint64_t>();
  options.back_to_back = vm["back-to-back"].as<bool>();
  if (vm.count("slow") == 0) return options;
  for (const std::string& text : vm["slow"].as<std::vector<std::string>>()) {
    if (Status s = AddSlow(text, &options.model.slow); !s.ok()) return s;
  }
  return options;
}

}  // namespace

void AddRecordOptions(po::options_description_easy_init options) {
  options("seconds", po::value<uint32_t>()->default_value(10)->value_name("N"),
          "how long; Ctrl-C ends it earlier, and the trace is whole");
}

Status RecordTrace(const Context& context, const po::variables_map& vm) {
  uint32_t seconds = vm["seconds"].as<uint32_t>();
  if (Status s = CheckRange("seconds", seconds, 1, kSecondsMax); !s.ok()) return s;
  std::string path = Command::Argument(vm);
  SignalWaiter signals;
  std::unique_ptr<balancer::TraceSource> source = context.world.make_trace_source();
  Result<balancer::TraceSummary> summary =
      balancer::RecordTrace(*source, context.world.sysfs, path, std::chrono::seconds(seconds), signals.fd());
  if (!summary.ok()) return summary.status();
  std::string text = fmt::format("{}: {} records\n", path, summary->records);
  if (summary->dropped > 0) {
    text += fmt::format("{} records were lost because the host was too busy to write them\n", summary->dropped);
  }
  context.Print(text, {{"file", path}, {"records", summary->records}, {"dropped", summary->dropped}});
  return {};
}

void AddSimulateOptions(po::options_description_easy_init options) {
  options("slow", po::value<std::vector<std::string>>()->composing()->value_name("TARGET=FACTOR"),
          "this target takes so many times as long; may be repeated")(
      "servers", po::value<uint32_t>()->default_value(4)->value_name("N"), "requests that a target works on at once")(
      "depth", po::value<uint32_t>()->default_value(0)->value_name("N"),
      "reads in flight at most (back to back: requests); 0: as many as the trace had at its busiest")(
      "back-to-back", po::bool_switch(), "requests come as soon as the depth allows, not when the trace says")(
      "seed", po::value<uint64_t>()->default_value(1)->value_name("N"), "of everything that is left to chance");
}

Status Simulate(const Context& context, const po::variables_map& vm) {
  Result<balancer::SimulationOptions> options = ReadOptions(vm);
  if (!options.ok()) return options.status();
  std::vector<std::string> arguments = Command::Arguments(vm);
  Result<balancer::Trace> trace = balancer::ReadTrace(arguments.front());
  if (!trace.ok()) return trace.status();
  Result<std::unique_ptr<balancer::Simulator>> simulator = balancer::Simulator::Create(&*trace, *options);
  if (!simulator.ok()) return simulator.status().Annotate(arguments.front());
  std::vector<balancer::SimulationResult> results;
  for (size_t i = 1; i < arguments.size(); ++i) {
    Result<balancer::SimulationResult> result = (*simulator)->Run(arguments[i]);
    if (!result.ok()) return result.status();
    results.push_back(*std::move(result));
  }
  uint32_t depth = (*simulator)->depth();
  context.Print(TraceText(*trace, depth) + SimulationText(results), SimulationJson(*trace, depth, results));
  return {};
}

}  // namespace weft::ctl
