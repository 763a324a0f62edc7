#include "codegen/kernel_text.h"

#include <fmt/format.h>

namespace gdnjit {

std::string kernel_source(const KernelText& text, std::string_view initializer, int threads) {
  return fmt::format(
      "// {name}, generated from its signature.\n"
      "#include \"{header}\"\n\n"
      "using Kernel = gdnjit::{space}::{kernel}<gdnjit::{space}::{config}{initializer}>;\n\n"
      "static_assert(sizeof(gdnjit::{space}::{params}) == {bytes} && Kernel::kThreads == {threads},\n"
      "              \"host and device disagree on the kernel\");\n\n"
      "extern \"C\" __global__ void __launch_bounds__({bounds})\n"
      "    {entry}(const __grid_constant__ gdnjit::{space}::{params} params) {{\n"
      "  Kernel::run(params);\n}}\n",
      fmt::arg("name", text.operator_name), fmt::arg("space", text.space), fmt::arg("header", text.header),
      fmt::arg("kernel", text.kernel), fmt::arg("config", text.config), fmt::arg("initializer", initializer),
      fmt::arg("params", text.params), fmt::arg("bytes", text.parameter_bytes), fmt::arg("threads", threads),
      fmt::arg("entry", text.entry), fmt::arg("bounds", text.bounds));
}

KernelSpec kernel_spec(const KernelText& text, std::string_view signature, std::string_view initializer, int threads,
                       const Target& target) {
  KernelSpec spec;
  spec.operator_name = text.operator_name;
  spec.signature = fmt::format("{} arch={}", signature, target.arch);
  spec.source = kernel_source(text, initializer, threads);
  spec.entry = text.entry;
  spec.target = target;
  spec.quick_compile = text.quick_compile;
  return spec;
}

}  // namespace gdnjit
