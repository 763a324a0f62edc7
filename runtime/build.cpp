#include "runtime/build.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <utility>

#include "codegen/compile_pool.h"
#include "codegen/ptxas_report.h"
#include "runtime/miss_file.h"
#include "runtime/support/check.h"
#include "runtime/support/log.h"

namespace gdnjit {
namespace {

using BinaryPtr = cache::KernelCache::BinaryPtr;

// The cache's answer without compiling. A machine without NVRTC takes a binary of any toolchain: the request digest
// says that it was made from the same source with the same options. So does `strict`, which may not compile.
BinaryPtr find_binary(Runtime::Impl& runtime, const Digest& request, const KernelSpec& spec) {
  const std::string toolchain = runtime.toolchain();
  if (!toolchain.empty()) {
    if (BinaryPtr found = runtime.cache().find(kernel_key(request, toolchain), spec.signature)) return found;
    if (runtime.options().policy != Policy::strict) return nullptr;
  }
  return runtime.cache().find_any_toolchain(request, spec.signature);
}

[[noreturn]] void fail_strict(const Runtime::Impl& runtime, const FieldMap& problem, const KernelSpec& spec) {
  const std::filesystem::path& file = runtime.options().miss_file;
  std::string noted = "set GDNJIT_MISS_FILE to have misses noted for gdn-tune";
  if (!file.empty()) {
    const std::string trouble =
        append_miss(file, {spec.operator_name, fields_text(problem), spec.signature, spec.target.arch});
    noted = trouble.empty() ? fmt::format("noted in {}: run gdn-tune on it", file.string())
                            : fmt::format("it could not be noted: {}", trouble);
  }
  fail(ErrorCode::strict_miss, "policy strict: the cache has no kernel '{}'; {}", spec.signature, noted);
}

Built compile(Runtime::Impl& runtime, const Operator& op, const Digest& request, const KernelSpec& spec) {
  std::string toolchain;
  Compiler* compiler = nullptr;
  try {
    compiler = &runtime.compiler();
    toolchain = compiler->toolchain();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::nvrtc_missing) throw;
    fail(ErrorCode::nvrtc_missing, "{} for {} is not in the cache and must be compiled: {}", op.name(),
         spec.target.arch, error.what());
  }
  Built built;
  built.binary = runtime.cache().find_or_compile(kernel_key(request, toolchain), spec.signature, [&] {
    built.compiled = true;
    return binary_record(spec, request, toolchain, compiler->compile(spec));
  });
  return built;
}

[[noreturn]] void fail_compile(const FieldMap& problem, const cache::BinaryRecord& record) {
  std::string first = first_error_of(record.log);
  if (first.empty()) first = record.log.substr(0, record.log.find('\n'));
  fail(ErrorCode::compile_failed,
       "compiling {} for {} with {}: {}\n  signature: {}\n  to see source and log: gdn-tune explain --op {} "
       "--problem \"{}\"",
       record.operator_name, record.arch, record.toolchain, first, record.signature, record.operator_name,
       fields_text(problem));
}

}  // namespace

cache::BinaryRecord binary_record(const KernelSpec& spec, const Digest& request, std::string_view toolchain,
                                  CompileResult result) {
  const std::vector<std::string> options = compile_options(spec);
  cache::BinaryRecord record;
  record.key = kernel_key(request, toolchain);
  record.request = request;
  record.operator_name = spec.operator_name;
  record.signature = spec.signature;
  record.arch = spec.target.arch;
  record.options = join(options, " ");
  record.toolchain = toolchain;
  record.entry = spec.entry;
  record.source = spec.source;
  record.created_unix_s =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  if (auto* failure = std::get_if<CompileFailure>(&result)) {
    record.status = cache::BinaryStatus::compile_failed;
    record.log = failure->log.empty() ? std::move(failure->first_error) : std::move(failure->log);
    return record;
  }
  CompiledKernel& kernel = std::get<CompiledKernel>(result);
  record.ptx = std::move(kernel.ptx);
  record.cubin = std::move(kernel.cubin);
  record.registers = kernel.report.registers;
  record.static_shared_bytes = kernel.report.static_shared_bytes;
  record.stack_bytes = kernel.report.stack_bytes;
  record.spill_store_bytes = kernel.report.spill_store_bytes;
  record.spill_load_bytes = kernel.report.spill_load_bytes;
  record.compile_ms = kernel.milliseconds;
  record.log = std::move(kernel.log);
  return record;
}

Built build_kernel(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem, const KernelSpec& spec) {
  const Digest request = request_digest(spec, runtime.templates());
  Built built{.binary = find_binary(runtime, request, spec)};
  if (!built.binary && runtime.options().policy == Policy::strict) fail_strict(runtime, problem, spec);
  if (!built.binary) built = compile(runtime, op, request, spec);
  GDNJIT_CHECK(built.binary != nullptr, "the cache returned nothing for {}", spec.signature);
  if (built.binary->status == cache::BinaryStatus::compile_failed) fail_compile(problem, *built.binary);
  return built;
}

std::vector<Built> build_kernels(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                 std::span<const KernelSpec> specs) {
  const auto build = [&](const KernelSpec& spec) { return build_kernel(runtime, op, problem, spec); };
  std::vector<Built> built(specs.size());
  std::vector<std::future<Built>> compiling(specs.size());
  const auto is_missing = [&](const KernelSpec& spec) {
    return find_binary(runtime, request_digest(spec, runtime.templates()), spec) == nullptr;
  };
  const auto missing = specs.size() == 1 ? 1 : std::count_if(specs.begin(), specs.end(), is_missing);
  std::optional<CompilePool> pool;
  if (missing > 1 && runtime.options().policy != Policy::strict) {
    const int threads = runtime.options().compile_threads;
    pool.emplace(threads == 0 ? static_cast<int>(missing) : std::min(threads, static_cast<int>(missing)));
    for (std::size_t index = 0; index < specs.size(); ++index) {
      compiling[index] = pool->submit([&build, &spec = specs[index]] { return build(spec); });
    }
  }
  for (std::size_t index = 0; index < specs.size(); ++index) {
    built[index] = pool ? compiling[index].get() : build(specs[index]);
  }
  return built;
}

}  // namespace gdnjit
