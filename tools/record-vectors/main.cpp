// record-vectors: runs the instruction vectors on a device and writes, or compares with, a recording.
//
//   record-vectors --device cuda --out tests/vectors/recordings/h200.json     on a machine with a GPU
//   record-vectors --device emulator --compare tests/vectors/recordings/h200.json
//
// Exit status: 0 all cases ran (and agree), 1 some did not, 2 the command line or a file is wrong.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <map>

#include "runtime/runtime_impl.h"
#include "tests/vectors/recording.h"
#include "tests/vectors/vectors.h"

namespace gdnjit::vectors {
namespace {

struct Arguments {
  std::string device = "auto";
  std::string out;
  std::string compare;
  std::string family;
  std::string name;
  bool list = false;
};

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

struct Tally {
  int ran = 0;
  int failed = 0;
};

void print_tally(const std::map<std::string, Tally>& families) {
  fmt::print("{:<28} {:>5} {:>7}\n", "family", "cases", "failed");
  for (const auto& [family, tally] : families) fmt::print("{:<28} {:>5} {:>7}\n", family, tally.ran, tally.failed);
}

// One case: its output into `made`, and what is wrong with it.
std::string run_one(Device& device, Compiler& compiler, const VectorCase& vector_case, const Recording* reference,
                    Recording& made) {
  std::vector<std::byte> output;
  try {
    output = run_case(device, compiler, vector_case);
  } catch (const Error& error) {
    return error.what();
  }
  made.cases.push_back({vector_case.family, vector_case.name, digest_of(vector_case), output});
  if (reference == nullptr) return "";
  const RecordedCase* recorded = reference->find(vector_case);
  if (recorded == nullptr) return "not in the recording";
  if (recorded->digest != made.cases.back().digest) return "the case has changed since it was recorded";
  return difference(vector_case, output, recorded->output);
}

int list() {
  for (const VectorCase& vector_case : all_cases()) fmt::print("{}\t{}\n", vector_case.family, vector_case.name);
  return 0;
}

int run(const Arguments& arguments) {
  Options options = Options::from_environment();
  options.device = arguments.device;
  const Runtime runtime(options);
  Device& device = runtime.impl().device();
  Compiler& compiler = runtime.impl().compiler();
  const DeviceInfo& info = device.info();
  Recording reference;
  if (!arguments.compare.empty()) reference = read_recording(arguments.compare);
  Recording made{info.name, info.traits.arch, info.driver, compiler.toolchain(), today(), {}};

  std::map<std::string, Tally> families;
  int failed = 0;
  for (const VectorCase& vector_case : all_cases()) {
    if (!runs_on(vector_case, info.traits.arch)) continue;
    if (!arguments.family.empty() && vector_case.family != arguments.family) continue;
    if (!arguments.name.empty() && vector_case.name != arguments.name) continue;
    const std::string wrong =
        run_one(device, compiler, vector_case, arguments.compare.empty() ? nullptr : &reference, made);
    Tally& tally = families[vector_case.family];
    ++tally.ran;
    if (wrong.empty()) continue;
    ++tally.failed;
    ++failed;
    fmt::print("{} / {}: {}\n", vector_case.family, vector_case.name, wrong);
  }
  print_tally(families);
  if (!arguments.out.empty()) write_recording(arguments.out, made);
  fmt::print("{} cases on {}: {}\n", made.cases.size(), info.name,
             failed == 0 ? "all ran" : fmt::format("{} failed", failed));
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace gdnjit::vectors

int main(int argc, char** argv) {
  using namespace gdnjit;
  CLI::App app{"Runs the instruction vectors on a device; records their outputs, or compares them with a recording."};
  vectors::Arguments arguments;
  app.add_option("--device", arguments.device, "cuda, cuda:1, emulator or emulator:ARCH");
  app.add_option("--out", arguments.out, "Write a recording to this file");
  app.add_option("--compare", arguments.compare, "Compare with this recording");
  app.add_option("--family", arguments.family, "Only the cases of this family");
  app.add_option("--name", arguments.name, "Only the case of this name");
  app.add_flag("--list", arguments.list, "Print the cases, family and name");
  CLI11_PARSE(app, argc, argv);
  try {
    return arguments.list ? vectors::list() : vectors::run(arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "record-vectors: {}\n", error.what());
    return 2;
  }
}
