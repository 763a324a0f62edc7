#include <gdnjit/runtime.h>

#include <array>
#include <utility>

#include "runtime/capture.h"
#include "runtime/device_choice.h"
#include "runtime/nvrtc.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit {
namespace {

Options completed(Options options) {
  if (options.miss_file.empty() && !options.cache_directory.empty()) {
    options.miss_file = options.cache_directory / "misses.jsonl";
  }
  return options;
}

cache::CacheOptions cache_options(const Options& options) {
  cache::CacheOptions cache;
  cache.directory = options.cache_directory;
  cache.read_only = options.read_only_caches;
  cache.size_limit_bytes = options.cache_limit_bytes;
  return cache;
}

std::unique_ptr<const TemplateSet> open_templates(const Options& options) {
  if (options.templates_directory.empty()) return std::make_unique<const TemplateSet>(TemplateSet::embedded());
  return std::make_unique<const TemplateSet>(TemplateSet::with_overrides(options.templates_directory));
}

}  // namespace

std::string_view tiles_from_text(TilesFrom from) {
  static constexpr std::array<std::string_view, 5> kNames{"exact", "bucket", "hint", "heuristic", "given"};
  return kNames.at(static_cast<std::size_t>(from));
}

Runtime::Impl::Impl(const Options& options)
    : Impl(options,
           open_device(parse_device_choice("device", options.device), system_device_sources(options.emulator_races)),
           nullptr) {
  device_ordinal_ = parse_device_choice("device", options.device).ordinal;
}

Runtime::Impl::Impl(const Options& options, std::unique_ptr<Device> device, std::unique_ptr<Compiler> compiler)
    : options_(completed(options)),
      device_(std::move(device)),
      cache_(std::make_unique<cache::KernelCache>(cache_options(options_))),
      templates_(open_templates(options_)),
      compiler_(std::move(compiler)),
      capture_(options_.capture_directory.empty() ? nullptr : std::make_unique<Capture>(options_)),
      plans_(std::make_unique<PlanCache>()) {}

Runtime::Impl::~Impl() = default;

Compiler& Runtime::Impl::compiler() {
  const std::lock_guard lock(compiler_mutex_);
  if (!compiler_) {
    OpenedNvrtc opened = open_nvrtc(options_, *templates_, *cache_);
    compiler_ = std::move(opened.compiler);
    toolchain_ = std::move(opened.toolchain);  // the remembered one may have been another library's
  }
  return *compiler_;
}

std::string Runtime::Impl::toolchain() {
  {
    const std::lock_guard lock(compiler_mutex_);
    if (toolchain_.empty() && !compiler_) toolchain_ = remembered_toolchain(options_, *cache_);
    if (!toolchain_.empty() || no_nvrtc_) return toolchain_;
  }
  try {
    std::string found = compiler().toolchain();
    const std::lock_guard lock(compiler_mutex_);
    return toolchain_ = std::move(found);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::nvrtc_missing) throw;
    const std::lock_guard lock(compiler_mutex_);
    no_nvrtc_ = true;
    return "";
  }
}

Runtime::Runtime(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Runtime::Runtime(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Runtime::~Runtime() = default;
Runtime::Runtime(Runtime&&) noexcept = default;
Runtime& Runtime::operator=(Runtime&&) noexcept = default;

std::string Runtime::device_name() const {
  const DeviceInfo& info = impl_->device().info();
  return info.kind == DeviceKind::emulator ? info.name : fmt::format("{} ({})", info.name, info.traits.arch);
}

bool Runtime::is_emulator() const { return impl_->device().info().kind == DeviceKind::emulator; }

void* Runtime::allocate(std::size_t bytes, std::string_view name) { return impl_->device().allocate(bytes, name); }
void Runtime::release(void* memory) noexcept { impl_->device().release(memory); }

void Runtime::copy_in(void* device, const void* host, std::size_t bytes, void* stream) {
  impl_->device().copy_in(device, host, bytes, stream);
}

void Runtime::copy_out(void* host, const void* device, std::size_t bytes, void* stream) {
  impl_->device().copy_out(host, device, bytes, stream);
}

void Runtime::synchronize(void* stream) { impl_->device().synchronize(stream); }

}  // namespace gdnjit
