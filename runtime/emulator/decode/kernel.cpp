// The kernel as a whole: parameters, variables, labels, and the table of instruction families.
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kMaxSharedBytes = 1U << 20;
constexpr std::uint64_t kMaxLocalBytes = 512U << 10;

std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// The variable's own name, without the function that it is local to.
std::string label_of(std::string_view symbol) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(std::string(symbol).c_str(), nullptr, nullptr, &status), &std::free);
  if (name == nullptr || symbol.substr(0, 2) != "_Z") return std::string(symbol);
  const std::string_view whole = name.get();
  const std::size_t last = whole.rfind("::");
  return std::string(last == std::string_view::npos ? whole : whole.substr(last + 2));
}

}  // namespace

void Decoder::lay_out_parameters() {
  std::uint64_t offset = 0;
  for (const Variable& parameter : kernel_.parameters) {
    offset = align_up(offset, parameter.alignment);
    if (!local_symbols_.emplace(parameter.name, offset).second)
      malformed("the parameter '{}' is declared twice", parameter.name);
    offset += parameter.bytes;
    if (offset > 32764) unsupported("more than 32764 bytes of parameters");
  }
  program_.parameter_bytes = static_cast<std::uint32_t>(offset);
}

// Behind each shared variable lies a gap, so that an overrun does not reach the next. Gaps are multiples of every
// alignment and of the 32 banks' 128 bytes, so variables keep their alignments and banks.
std::uint64_t Decoder::shared_gap() const {
  std::uint64_t gap = 128;
  for (const Variable* variable : symbols_.shared) gap = std::max<std::uint64_t>(gap, variable->alignment);
  for (const Variable& variable : kernel_.variables) {
    if (variable.space == Space::shared) gap = std::max<std::uint64_t>(gap, variable.alignment);
  }
  return gap;
}

// Static shared variables in the order of declaration, the dynamic one behind them.
void Decoder::lay_out_variables() {
  std::uint64_t shared = 0;
  std::uint64_t local = 0;
  std::uint64_t gaps = 0;  // so far
  const std::uint64_t gap = shared_gap();
  std::vector<const Variable*> dynamic;
  const auto place = [&](const Variable& variable) {
    if (variable.is_dynamic) {
      dynamic.push_back(&variable);
      return;
    }
    std::uint64_t& end = variable.space == Space::local ? local : shared;
    end = align_up(end, variable.alignment);
    const std::uint64_t begin = variable.space == Space::shared ? end + gaps : end;
    if (!local_symbols_.emplace(variable.name, begin).second)
      malformed("the variable '{}' is declared twice", variable.name);
    if (variable.space == Space::shared) {
      program_.shared_variables.push_back({variable.name, begin, variable.bytes, label_of(variable.name)});
      gaps += gap;
    }
    end += variable.bytes;
    if (shared > kMaxSharedBytes || local > kMaxLocalBytes)
      unsupported("'{}' needs more memory than a GPU has", variable.name);
  };
  for (const Variable* variable : symbols_.shared) place(*variable);
  for (const Variable& variable : kernel_.variables) {
    if (variable.space != Space::param) place(variable);
  }
  std::uint64_t alignment = 16;
  for (const Variable* variable : dynamic) alignment = std::max(alignment, variable->alignment);
  shared = dynamic.empty() ? shared : align_up(shared, alignment);
  for (const Variable* variable : dynamic) {
    local_symbols_.emplace(variable->name, shared + gaps);
    program_.shared_variables.push_back({variable->name, shared + gaps, kMaxSharedBytes, label_of(variable->name)});
  }
  program_.static_shared_bytes = static_cast<std::uint32_t>(shared);
  program_.shared_extent = static_cast<std::uint32_t>(shared + gaps);
  frame_bytes_ = local;
  for (const Variable& variable : kernel_.variables) {
    if (variable.space == Space::param) place_in_frame(variable, variable.scope);
  }
}

void Decoder::resolve_labels() {
  // Statement numbers and instruction numbers agree: every statement becomes one instruction.
  for (const Label& label : kernel_.labels) {
    const auto first = static_cast<std::uint32_t>(program_.instructions.size());
    if (!labels_.emplace(std::pair{label.scope, label.name}, first + label.statement).second)
      malformed("the label '{}' is defined twice", label.name);
  }
}

void Decoder::decode() {
  program_.name = kernel_.name;
  program_.id_names = {"true", "false"};
  registers_.assign(kernel_.registers.size(), Slot{});
  constant(0, true);  // offset 0: what unused operands refer to
  lay_out_parameters();
  lay_out_variables();
  decode_body();
  program_.max_threads = kernel_.max_threads != 0 ? std::min(kernel_.max_threads, 1024U) : 1024U;
  std::copy(std::begin(kernel_.required_block), std::end(kernel_.required_block), std::begin(program_.required_block));
  std::copy(std::begin(kernel_.required_cluster), std::end(kernel_.required_cluster),
            std::begin(program_.required_cluster));
}

// The instructions of a kernel or a function.
void Decoder::decode_body() {
  resolve_labels();
  const std::size_t first = program_.instructions.size();
  for (const Statement& statement : kernel_.statements) {
    statement_ = &statement;
    modifiers_.assign(statement.opcode.begin() + 1, statement.opcode.end());
    inst_ = Instruction{};
    key_ = OpKey{};
    checks_ = 0;
    const auto family = families().find(statement.opcode.front());
    if (family == families().end())
      unsupported("the emulator does not know the instruction '{}'", statement.opcode.front());
    (this->*family->second)();
  }
  track_parts(first);
  guard_wgmma_registers(first);
  // A body may end without ret; labels may stand behind its last instruction.
  Statement last;
  last.opcode = {"ret"};
  last.line = kernel_.statements.empty() ? kernel_.line : kernel_.statements.back().line;
  statement_ = &last;
  modifiers_.clear();
  inst_ = Instruction{};
  key_ = OpKey{};
  ret();
  statement_ = nullptr;
  program_.functions[function_].frame_bytes = static_cast<std::uint32_t>(align_up(frame_bytes_, 16));
}

const std::unordered_map<std::string_view, Decoder::Family>& Decoder::families() {
  static const std::unordered_map<std::string_view, Family> kFamilies{{"add", &Decoder::add_sub},
                                                                      {"sub", &Decoder::add_sub},
                                                                      {"mul", &Decoder::mul},
                                                                      {"mad", &Decoder::mad},
                                                                      {"fma", &Decoder::fma},
                                                                      {"div", &Decoder::div},
                                                                      {"rem", &Decoder::rem},
                                                                      {"min", &Decoder::min_max},
                                                                      {"max", &Decoder::min_max},
                                                                      {"abs", &Decoder::abs_neg},
                                                                      {"neg", &Decoder::abs_neg},
                                                                      {"copysign", &Decoder::copysign},
                                                                      {"sqrt", &Decoder::square_root},
                                                                      {"rcp", &Decoder::reciprocal},
                                                                      {"rsqrt", &Decoder::rsqrt},
                                                                      {"ex2", &Decoder::approximate},
                                                                      {"lg2", &Decoder::approximate},
                                                                      {"sin", &Decoder::approximate},
                                                                      {"cos", &Decoder::approximate},
                                                                      {"tanh", &Decoder::approximate},
                                                                      {"sad", &Decoder::sad},
                                                                      {"addc", &Decoder::with_carry},
                                                                      {"subc", &Decoder::with_carry},
                                                                      {"madc", &Decoder::with_carry},
                                                                      {"dp4a", &Decoder::dot_product},
                                                                      {"dp2a", &Decoder::dot_product},
                                                                      {"mul24", &Decoder::product_24},
                                                                      {"mad24", &Decoder::product_24},
                                                                      {"bmsk", &Decoder::bit_mask},
                                                                      {"szext", &Decoder::bit_mask},
                                                                      {"fns", &Decoder::fns},
                                                                      {"vadd", &Decoder::video},
                                                                      {"vsub", &Decoder::video},
                                                                      {"vabsdiff", &Decoder::video},
                                                                      {"vmin", &Decoder::video},
                                                                      {"vmax", &Decoder::video},
                                                                      {"vshl", &Decoder::video},
                                                                      {"vshr", &Decoder::video},
                                                                      {"vmad", &Decoder::video},
                                                                      {"vset", &Decoder::video},
                                                                      {"vadd2", &Decoder::video},
                                                                      {"vsub2", &Decoder::video},
                                                                      {"vavrg2", &Decoder::video},
                                                                      {"vabsdiff2", &Decoder::video},
                                                                      {"vmin2", &Decoder::video},
                                                                      {"vmax2", &Decoder::video},
                                                                      {"vset2", &Decoder::video},
                                                                      {"vadd4", &Decoder::video},
                                                                      {"vsub4", &Decoder::video},
                                                                      {"vavrg4", &Decoder::video},
                                                                      {"vabsdiff4", &Decoder::video},
                                                                      {"vmin4", &Decoder::video},
                                                                      {"vmax4", &Decoder::video},
                                                                      {"vset4", &Decoder::video},
                                                                      {"and", &Decoder::logic},
                                                                      {"or", &Decoder::logic},
                                                                      {"xor", &Decoder::logic},
                                                                      {"not", &Decoder::logic},
                                                                      {"cnot", &Decoder::logic},
                                                                      {"shl", &Decoder::shift},
                                                                      {"shr", &Decoder::shift},
                                                                      {"shf", &Decoder::funnel},
                                                                      {"lop3", &Decoder::lop3},
                                                                      {"prmt", &Decoder::prmt},
                                                                      {"bfe", &Decoder::bfe},
                                                                      {"bfi", &Decoder::bfi},
                                                                      {"bfind", &Decoder::bfind},
                                                                      {"clz", &Decoder::count_bits},
                                                                      {"popc", &Decoder::count_bits},
                                                                      {"brev", &Decoder::count_bits},
                                                                      {"setp", &Decoder::setp},
                                                                      {"set", &Decoder::set},
                                                                      {"selp", &Decoder::selp},
                                                                      {"slct", &Decoder::slct},
                                                                      {"testp", &Decoder::testp},
                                                                      {"mov", &Decoder::mov},
                                                                      {"cvta", &Decoder::cvta},
                                                                      {"isspacep", &Decoder::isspacep},
                                                                      {"cvt", &Decoder::cvt},
                                                                      {"ld", &Decoder::ld},
                                                                      {"ldu", &Decoder::ld},
                                                                      {"st", &Decoder::st},
                                                                      {"atom", &Decoder::atom},
                                                                      {"red", &Decoder::atom},
                                                                      {"prefetch", &Decoder::prefetch},
                                                                      {"createpolicy", &Decoder::create_policy},
                                                                      {"applypriority", &Decoder::cache_control},
                                                                      {"discard", &Decoder::cache_control},
                                                                      {"brkpt", &Decoder::trap},
                                                                      {"pmevent", &Decoder::pmevent},
                                                                      {"prefetchu", &Decoder::prefetch},
                                                                      {"bra", &Decoder::bra},
                                                                      {"brx", &Decoder::brx},
                                                                      {"ret", &Decoder::ret},
                                                                      {"call", &Decoder::call},
                                                                      {"exit", &Decoder::ret},
                                                                      {"trap", &Decoder::trap},
                                                                      {"bar", &Decoder::barrier},
                                                                      {"barrier", &Decoder::barrier},
                                                                      {"shfl", &Decoder::shfl},
                                                                      {"vote", &Decoder::vote},
                                                                      {"activemask", &Decoder::activemask},
                                                                      {"match", &Decoder::match},
                                                                      {"redux", &Decoder::redux},
                                                                      {"elect", &Decoder::elect},
                                                                      {"mapa", &Decoder::mapa},
                                                                      {"getctarank", &Decoder::getctarank},
                                                                      {"membar", &Decoder::fence},
                                                                      {"fence", &Decoder::fence},
                                                                      {"cp", &Decoder::cp},
                                                                      {"createpolicy", &Decoder::createpolicy},
                                                                      {"mbarrier", &Decoder::mbarrier},
                                                                      {"griddepcontrol", &Decoder::no_effect},
                                                                      {"nanosleep", &Decoder::no_effect},
                                                                      {"mma", &Decoder::mma},
                                                                      {"ldmatrix", &Decoder::matrix_access},
                                                                      {"stmatrix", &Decoder::matrix_access},
                                                                      {"movmatrix", &Decoder::movmatrix},
                                                                      {"wgmma", &Decoder::wgmma},
                                                                      {"setmaxnreg", &Decoder::setmaxnreg}};
  return kFamilies;
}

std::vector<std::string_view> known_instructions() {
  std::vector<std::string_view> names;
  for (const auto& [name, family] : Decoder::families()) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace gdnjit::emulator
