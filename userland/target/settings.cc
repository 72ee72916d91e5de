// SPDX-License-Identifier: MIT
#include "userland/target/settings.h"

#include <cerrno>
#include <iostream>

#include "userland/base/config.h"

namespace weft::target {
namespace {

namespace po = boost::program_options;

constexpr uint64_t kMiB = 1 << 20;
constexpr int64_t kWeightMax = 10'000;
constexpr int64_t kDepthMax = 1024;
constexpr int64_t kDepthTotalMax = 65'536;
constexpr int64_t kSpinMaxUs = 1'000'000;
constexpr uint64_t kBuffersMax = 64ULL << 30;
constexpr uint64_t kSizeMax = 1ULL << 60;

struct Texts {  // what still has to be understood
  std::string size, listen, meta, buffers;
};

po::options_description Options(Settings* s, Texts* t) {
  po::options_description options("weft-target: serves a block device or file to the clients of a weftfs cluster");
  auto add = options.add_options();
  add("name", po::value(&s->name), "name of this target in the cluster");
  add("backing", po::value(&s->backing), "block device or file that holds the data");
  add("size", po::value(&t->size), "create the backing file with this size, such as 10GiB");
  add("force", po::bool_switch(&s->force), "destroy what the backing holds when it is no weft target");
  add("listen", po::value(&t->listen), "HOST:PORT to listen on; an address of the RDMA network (port 7471)");
  add("address", po::value(&s->address), "address that clients connect to (default: the host of --listen)");
  add("meta", po::value(&t->meta), "metadata server, HOST:PORT");
  add("key", po::value(&s->key), "file with the cluster key");
  add("zone", po::value(&s->zone), "failure domain, such as a rack");
  add("weight", po::value(&s->weight), "share of the data, 100 is the norm");
  add("buffers", po::value(&t->buffers), "memory for data under way (default 64MiB)");
  add("depth", po::value(&s->depth), "commands in flight of one connection (default 256)");
  add("depth-total", po::value(&s->depth_total), "commands in flight of all connections (default 2048)");
  add("spin-us", po::value(&s->spin_us), "microseconds to look for more work before sleeping");
  return options;
}

Status ReadFile(Settings* s, Texts* t) {
  if (s->common.config_path.empty()) return Status::Ok();
  Result<Config> config = Config::Load(s->common.config_path);
  if (!config.ok()) return config.status();
  config->Read("cluster", &s->common.cluster);
  config->Read("log_level", &s->common.log_level);
  config->Read("name", &s->name);
  config->Read("backing", &s->backing);
  config->ReadBytes("size", &s->size_bytes, 0, kSizeMax);
  config->Read("listen", &t->listen);
  config->Read("address", &s->address);
  config->Read("meta", &t->meta);
  config->Read("key", &s->key);
  config->Read("zone", &s->zone);
  config->Read("weight", &s->weight, 1, kWeightMax);
  config->ReadBytes("buffers", &s->buffer_bytes, kMiB, kBuffersMax);
  config->Read("depth", &s->depth, 2, kDepthMax);
  config->Read("depth_total", &s->depth_total, 2, kDepthTotalMax);
  config->Read("spin_us", &s->spin_us, 0, kSpinMaxUs);
  return config->Finish();
}

Status CheckRange(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return Status::Ok();
  return Error(EINVAL, "{} is {}, {} to {} are possible", name, value, min, max);
}

Status Understand(const Texts& t, Settings* s) {
  if (!t.size.empty()) {
    Result<uint64_t> size = ParseBytes(t.size);
    if (!size.ok()) return size.status().Annotate("--size");
    s->size_bytes = *size;
  }
  if (!t.buffers.empty()) {
    Result<uint64_t> bytes = ParseBytes(t.buffers);
    if (!bytes.ok()) return bytes.status().Annotate("--buffers");
    s->buffer_bytes = *bytes;
  }
  if (s->name.empty()) return Error(EINVAL, "this target has no name; give --name NAME");
  if (s->backing.empty()) return Error(EINVAL, "no backing device or file is named; give --backing PATH");
  if (t.listen.empty()) return Error(EINVAL, "no address to listen on; give --listen HOST:PORT");
  if (t.meta.empty()) return Error(EINVAL, "no metadata server is named; give --meta HOST:PORT");
  if (s->key.empty()) return Error(EINVAL, "no cluster key is named; give --key FILE");
  Result<Address> listen = ParseAddress(t.listen, kTargetPort);
  if (!listen.ok()) return listen.status().Annotate("--listen");
  s->listen = *listen;
  Result<Address> meta = ParseAddress(t.meta, kMetaPort);
  if (!meta.ok()) return meta.status().Annotate("--meta");
  s->meta = *meta;
  if (s->address.empty()) s->address = s->listen.host;
  if (s->address == "0.0.0.0" || s->address == "::") {
    return Error(EINVAL, "clients cannot connect to {}; give --address HOST", s->address);
  }
  if (s->buffer_bytes < kMiB || s->buffer_bytes > kBuffersMax || s->buffer_bytes % kMiB) {
    return Error(EINVAL, "--buffers is {}: multiples of 1 MiB up to {} are possible", s->buffer_bytes,
                 FormatBytes(kBuffersMax));
  }
  for (const Status& range :
       {CheckRange("--weight", s->weight, 1, kWeightMax), CheckRange("--depth", s->depth, 2, kDepthMax),
        CheckRange("--depth-total", s->depth_total, s->depth, kDepthTotalMax),
        CheckRange("--spin-us", s->spin_us, -1, kSpinMaxUs)}) {
    if (!range.ok()) return range;
  }
  return Status::Ok();
}

}  // namespace

std::optional<int> ParseSettings(int argc, char** argv, Settings* settings) {
  // First only to find the configuration file, then once more over what that says.
  Settings first;
  Texts texts;
  po::variables_map given;
  auto exit_code = ParseDaemonOptions(argc, argv, "weft-target", Options(&first, &texts), &first.common, &given);
  if (exit_code) return exit_code;
  settings->common.config_path = first.common.config_path;
  texts = Texts{};
  Status s = ReadFile(settings, &texts);
  if (s.ok()) {
    po::variables_map again;
    exit_code = ParseDaemonOptions(argc, argv, "weft-target", Options(settings, &texts), &settings->common, &again);
    if (exit_code) return exit_code;
    s = Understand(texts, settings);
  }
  if (s.ok()) return std::nullopt;
  std::cerr << "weft-target: " << s.message() << std::endl;
  return 2;
}

}  // namespace weft::target
