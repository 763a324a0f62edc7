#include "tools/gdn-tune/runtime_arguments.h"

#include "codegen/kernel_spec.h"
#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit::tool {

void RuntimeArguments::declare_device(Arguments& arguments) {
  arguments.group("Device");
  arguments.option("device", device, "NAME", "auto, cuda, cuda:1, emulator or emulator:ARCH (GDNJIT_DEVICE)");
  arguments.option("arch", arch, "ARCH", "Emulate this architecture, such as sm_80 or sm_120");
}

void RuntimeArguments::declare_cache(Arguments& arguments) {
  arguments.group("Cache");
  arguments.option("cache-dir", cache_directory, "DIR", "Where the cache lives; none: memory (GDNJIT_CACHE_DIR)");
  arguments.list("layer", layers, "FILE,..", "Read-only caches below it (GDNJIT_CACHE_LAYERS)");
}

void RuntimeArguments::declare_compiler(Arguments& arguments) {
  arguments.group("Compiling");
  arguments.option("policy", policy, "NAME", "heuristic, cached, tune_on_miss or strict (GDNJIT_POLICY)");
  arguments.option("miss-file", miss_file, "FILE", "Where policy strict notes what is missing (GDNJIT_MISS_FILE)");
  arguments.option("nvrtc", nvrtc, "FILE", "The NVRTC library (GDNJIT_NVRTC; default: searched)");
  arguments.option("templates", templates, "DIR", "Templates that replace the built-in ones (GDNJIT_TEMPLATES)");
  arguments.option("threads", threads, 0, "Compiles at a time (default: one per core)");
}

Options RuntimeArguments::options() const {
  Options options = Options::from_environment();
  const auto set = [&](std::string_view name, const std::string& text) {
    if (!text.empty()) options.set(name, text);
  };
  set("device", device);
  set("cache_dir", cache_directory);
  set("cache_layers", join(layers, ":"));
  set("policy", policy);
  set("miss_file", miss_file);
  set("nvrtc", nvrtc);
  set("templates", templates);
  if (threads > 0) options.compile_threads = threads;
  if (!captures) options.capture_directory.clear();
  if (!arch.empty()) {
    require(!options.device.starts_with("cuda"),
            "--arch {}: a GPU has the architecture it has; leave out --arch, or use --device emulator", arch);
    options.set("device", "emulator:" + parse_target(arch).arch);
  }
  return options;
}

std::vector<std::unique_ptr<Runtime::Impl>> open_runtimes(const Options& options,
                                                          const std::vector<std::string>& archs) {
  std::vector<std::string> known;
  for (const std::string& name : archs) {
    if (name == "all") {
      known.insert(known.end(), known_architectures().begin(), known_architectures().end());
    } else {
      known.push_back(parse_target(name).arch);
    }
  }
  std::vector<std::unique_ptr<Runtime::Impl>> runtimes;
  if (known.empty()) runtimes.push_back(std::make_unique<Runtime::Impl>(options));
  for (const std::string& name : known) {
    Options of_arch = options;
    of_arch.set("device", "emulator:" + name);
    runtimes.push_back(std::make_unique<Runtime::Impl>(of_arch));
  }
  return runtimes;
}

}  // namespace gdnjit::tool
