#include "tools/gdn-tune/diagnosis.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <optional>

#include "autotune/checker.h"
#include "cache/kernel_cache.h"
#include "cache/maintenance.h"
#include "codegen/registry.h"
#include "runtime/nvrtc.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

constexpr std::int64_t kLeastFreeBytes = 100LL << 20;

class Examination {
 public:
  Examination(const Options& options, const DeviceSources& sources, const std::function<void(const std::string&)>& step)
      : options_(options), sources_(sources), step_(step) {}

  Diagnosis run() {
    trying("the CUDA driver", [&] { examine_gpus(); });
    trying("the emulator", [&] { examine_emulator(); });
    trying("NVRTC", [&] { examine_nvrtc(); });
    trying("the cache", [&] { examine_cache(); });
    for (const std::filesystem::path& layer : options_.read_only_caches) {
      trying("a cache layer", [&] { examine_layer(layer); });
    }
    trying("a kernel", [&] { examine_kernel(); });
    return std::move(diagnosis_);
  }

 private:
  void add(Health health, std::string subject, std::string detail, std::string remedy = "") {
    diagnosis_.findings.push_back({health, std::move(subject), std::move(detail), std::move(remedy)});
  }

  template <typename Trial>
  void trying(const std::string& what, const Trial& trial) {
    if (step_) step_(what);
    try {
      trial();
    } catch (const std::exception& error) {
      add(Health::fail, what, error.what());
    }
  }

  void examine_gpus() {
    const int count = sources_.cuda_device_count();
    gpu_asked_for_ = options_.device.starts_with("cuda");
    if (count == 0) {
      add(gpu_asked_for_ ? Health::fail : Health::warn, "gpu", sources_.cuda_unavailable_reason(),
          "without a GPU the emulator runs every kernel; its times are modelled, never measured");
    }
    for (int ordinal = 0; ordinal < count; ++ordinal) {
      const std::string subject = fmt::format("gpu {}", ordinal);
      try {
        const std::unique_ptr<Device> device = sources_.make_cuda(ordinal);
        const DeviceInfo& info = device->info();
        add(Health::ok, subject,
            fmt::format("{}, {}, {} SMs, {}, {}", info.name, info.traits.arch, info.traits.sm_count,
                        bytes_text(info.memory_bytes), info.driver));
      } catch (const Error& error) {
        add(Health::fail, subject, error.what());
      }
    }
  }

  void examine_emulator() {
    const DeviceChoice choice = parse_device_choice("device", options_.device);
    const std::unique_ptr<Device> device = sources_.make_emulator(choice.arch);
    const DeviceBuffer buffer(*device, sizeof(int), "doctor");
    const int sent = 20251;
    int received = 0;
    device->copy_in(buffer.data(), &sent, sizeof sent, nullptr);
    device->copy_out(&received, buffer.data(), sizeof received, nullptr);
    if (received == sent) {
      add(Health::ok, "emulator", device->info().name);
    } else {
      add(Health::fail, "emulator", "its memory does not hold what is written to it", "please report it");
    }
  }

  void examine_nvrtc() {
    cache::KernelCache memory_only(cache::CacheOptions{});
    try {
      const OpenedNvrtc opened = open_nvrtc(options_, TemplateSet::embedded(), memory_only);
      nvrtc_works_ = true;
      add(Health::ok, "nvrtc", fmt::format("{} compiles", opened.toolchain));
    } catch (const Error& error) {
      nvrtc_error_ = error;
      add(Health::warn, "nvrtc", error.what(), "without NVRTC only kernels that are in a cache run");
    }
  }

  void examine_cache() {
    if (options_.cache_directory.empty()) {
      add(Health::warn, "cache", "kept in memory only: every process compiles again",
          "set GDNJIT_CACHE_DIR or --cache-dir to a folder of your own");
      return;
    }
    cache::CacheOptions cache_options;
    cache_options.directory = options_.cache_directory;
    cache::KernelCache cache(cache_options);
    cache.find_tuning("", "", "");  // opens the file
    const std::filesystem::path file = cache.file();
    const std::string trouble = cache.trouble();
    std::error_code no_file;
    const bool there = std::filesystem::exists(file, no_file);
    if (!trouble.empty()) {
      add(Health::warn, "cache", fmt::format("{}: {}", file.string(), trouble),
          fmt::format(
              "kernels still compile and run, but are not kept; make {} a folder that you own and may write to, "
              "or choose another with --cache-dir",
              options_.cache_directory.string()));
    } else if (!there) {
      add(Health::ok, "cache", fmt::format("{} will be made at the first use", file.string()));
    } else {
      const cache::FileSummary summary = cache::summarize(file);
      cached_binaries_ += summary.binaries;
      add(Health::ok, "cache",
          fmt::format("{}: {} in {}, {}", file.string(), plural(static_cast<std::uint64_t>(summary.binaries), "kernel"),
                      bytes_text(summary.file_bytes),
                      plural(static_cast<std::uint64_t>(summary.tuning_rows), "tuning record")));
    }
    examine_space();
  }

  void examine_space() {
    std::filesystem::path folder = options_.cache_directory;
    std::error_code error;
    while (!std::filesystem::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
    const std::filesystem::space_info space = std::filesystem::space(folder, error);
    if (!error && space.available < static_cast<std::uintmax_t>(kLeastFreeBytes)) {
      add(Health::warn, "disk",
          fmt::format("{} has {} left", folder.string(), bytes_text(static_cast<std::int64_t>(space.available))),
          "free some space, or 'gdn-tune prune'");
    }
  }

  void examine_layer(const std::filesystem::path& layer) {
    try {
      const cache::FileSummary summary = cache::summarize(layer);
      cached_binaries_ += summary.binaries;
      add(Health::ok, "layer",
          fmt::format("{}: {}", layer.string(), plural(static_cast<std::uint64_t>(summary.binaries), "kernel")));
    } catch (const Error& error) {
      add(Health::warn, "layer", error.what(), "correct GDNJIT_CACHE_LAYERS, or make the file readable");
    }
  }

  // The proof of the rest: the default problem of the first operator, compiled, run and compared.
  void examine_kernel() {
    if (!nvrtc_works_) {
      if (cached_binaries_ == 0) {
        diagnosis_.code = nvrtc_error_ ? nvrtc_error_->code() : ErrorCode::nvrtc_missing;
        add(Health::fail, "kernel", "nothing can run: there is no NVRTC to compile with and no kernel in a cache",
            "run tools/quickstart.sh, which fetches NVRTC, or point GDNJIT_NVRTC to libnvrtc.so");
      } else {
        add(Health::warn, "kernel",
            fmt::format("only the {} in the cache can run",
                        plural(static_cast<std::uint64_t>(cached_binaries_), "kernel")));
      }
      return;
    }
    diagnosis_.code = ErrorCode::internal;  // until it has run
    try {
      run_kernel();
    } catch (const Error& error) {
      diagnosis_.code = error.code();
      add(Health::fail, "kernel", error.what());
    }
  }

  void run_kernel() {
    Options options = options_;
    options.cache_directory.clear();
    options.read_only_caches.clear();
    options.policy = Policy::heuristic;
    Runtime::Impl runtime(options);
    const Operator& op = *operators().front();
    const auto started = std::chrono::steady_clock::now();
    const auto plan = make_plan(runtime, op, {});
    const auto workload = reference::make_workload(op.name(), op.complete({}), reference::Inputs::typical, 1);
    const autotune::CheckResult result = autotune::check(*plan, *workload);
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - started;
    diagnosis_.code = result.passed() ? ErrorCode::ok : ErrorCode::mismatch;
    if (result.passed()) {
      add(Health::ok, "kernel",
          fmt::format("{} compiled, ran on {} and matches the reference ({:.0f} ms)", op.name(),
                      runtime.device().info().name, elapsed.count()));
    } else {
      add(Health::fail, "kernel",
          fmt::format("{} on {} misses the reference: {}", op.name(), runtime.device().info().name, result.text()),
          "'gdn-tune verify' shows where; please report it");
    }
  }

  const Options& options_;
  const DeviceSources& sources_;
  const std::function<void(const std::string&)>& step_;
  Diagnosis diagnosis_;
  bool gpu_asked_for_ = false;
  bool nvrtc_works_ = false;
  std::optional<Error> nvrtc_error_;
  std::int64_t cached_binaries_ = 0;
};

}  // namespace

Diagnosis diagnose(const Options& options, const DeviceSources& sources,
                   const std::function<void(const std::string&)>& step) {
  return Examination(options, sources, step).run();
}

}  // namespace gdnjit::tool
