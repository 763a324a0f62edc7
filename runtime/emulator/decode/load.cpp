// From PTX text to a Program: parses the module, places its variables, decodes the kernel.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "runtime/emulator/decode/decoder.h"
#include "runtime/support/text.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kVariableAlignment = 4096;  // the largest .align the parser takes
constexpr std::uint64_t kMaxVariableBytesOfModule = 1ULL << 30;

std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Gives .global and .const variables host memory and fills in the addresses their initialisers name.
std::shared_ptr<ModuleMemory> place_variables(const ModuleText& module, ModuleSymbols& symbols, Program& program) {
  auto memory = std::make_shared<ModuleMemory>();
  std::uint64_t size = 0;
  std::vector<std::pair<const Variable*, std::uint64_t>> placed;
  for (const Variable& variable : module.variables) {
    if (variable.space == Space::shared) {
      symbols.shared.push_back(&variable);
      continue;
    }
    size = align_up(size, variable.alignment);
    placed.emplace_back(&variable, size);
    size += variable.bytes;
    if (size > kMaxVariableBytesOfModule) {
      fail(ErrorCode::unsupported, "loading PTX: line {}: '{}': the module's variables need more than 1 GiB",
           variable.line, variable.name);
    }
  }
  memory->bytes = std::make_unique<std::byte[]>(size + kVariableAlignment);
  const std::uint64_t base = align_up(reinterpret_cast<std::uint64_t>(memory->bytes.get()), kVariableAlignment);
  for (const auto& [variable, offset] : placed) {
    const std::uint64_t begin = base + offset;
    if (!symbols.global.emplace(variable->name, begin).second) {
      fail(ErrorCode::device_failed, "loading PTX: line {}: the variable '{}' is declared twice", variable->line,
           variable->name);
    }
    if (!variable->contents.empty())
      std::memcpy(reinterpret_cast<void*>(begin), variable->contents.data(), variable->contents.size());
    memory->ranges.push_back({variable->name, begin, variable->bytes, variable->space == Space::global});
  }
  for (const auto& [variable, offset] : placed) {
    for (const SymbolReference& reference : variable->references) {
      const auto found = symbols.global.find(reference.name);
      const bool is_function = symbols.functions.contains(reference.name);
      if (found == symbols.global.end() && !is_function) {
        fail(ErrorCode::device_failed, "loading PTX: line {}: '{}' refers to the unknown variable '{}'", variable->line,
             variable->name, reference.name);
      }
      const std::uint64_t target =
          is_function ? function_address(function_index(program, symbols, reference.name)) : found->second;
      const std::uint64_t address = target + static_cast<std::uint64_t>(reference.addend);
      std::memcpy(reinterpret_cast<void*>(base + offset + reference.offset), &address, sizeof(address));
    }
  }
  return memory;
}

void find_functions(const ModuleText& module, ModuleSymbols& symbols) {
  for (const KernelText& function : module.functions) {
    if (!function.has_body) continue;
    if (!symbols.functions.emplace(function.name, &function).second) {
      fail(ErrorCode::device_failed, "loading PTX: line {}: the function '{}' is defined twice", function.line,
           function.name);
    }
    for (const Variable& variable : function.variables) {
      if (variable.space == Space::shared) symbols.shared.push_back(&variable);
    }
  }
}

// NVRTC puts the working directory before names that are no paths.
std::string short_path(std::string_view path) {
  std::error_code ignored;
  const std::string folder = std::filesystem::current_path(ignored).string() + "/";
  return std::string(path.starts_with(folder) ? path.substr(folder.size()) : path);
}

void find_lines(Program& program) {
  program.line_starts.push_back(0);
  for (std::size_t at = 0; at < program.text.size(); ++at) {
    if (program.text[at] == '\n') program.line_starts.push_back(at + 1);
  }
}

}  // namespace

std::shared_ptr<const Program> load_program(std::string_view ptx, std::string_view entry, const ExecutionSet& set) {
  auto program = std::make_shared<Program>();
  program->text = ptx;
  find_lines(*program);
  const ModuleText module = parse_module(program->text);
  const auto kernel =
      std::find_if(module.kernels.begin(), module.kernels.end(), [&](const KernelText& k) { return k.name == entry; });
  if (kernel == module.kernels.end()) {
    std::vector<std::string> names;
    for (const KernelText& candidate : module.kernels) names.push_back(candidate.name);
    fail(ErrorCode::device_failed, "loading PTX: there is no kernel '{}'{}", entry, suggestion(entry, names));
  }
  for (const SourceFile& file : module.files) {
    if (file.number > 4096)
      fail(ErrorCode::device_failed, "loading PTX: .file {}: more files than expected", file.number);
    if (program->files.size() <= file.number) program->files.resize(file.number + 1);
    program->files[file.number] = short_path(file.path);
  }
  ModuleSymbols symbols;
  program->target = module.target;
  program->functions.emplace_back().name = kernel->name;
  find_functions(module, symbols);
  program->memory = place_variables(module, symbols, *program);
  Decoder(*kernel, symbols, set, *program).decode();
  // Decoding one function may find more.
  for (std::uint32_t index = 1; index < program->functions.size(); ++index) {
    const auto text = symbols.functions.find(program->functions[index].name);
    if (text != symbols.functions.end()) Decoder(*text->second, symbols, set, *program, index).decode_function();
  }
  link_calls(*program);
  return program;
}

}  // namespace gdnjit::emulator
