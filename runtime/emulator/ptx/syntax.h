// PTX as parsed: names resolved to declarations, opcodes still text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/emulator/types.h"

namespace gdnjit::emulator {

struct Register {
  std::string name;
  Type type = Type::none;
};

struct Operand {
  enum class Kind : std::uint8_t {
    reg,      // reg
    symbol,   // name (+ value): a variable, a parameter, a label or a special register
    integer,  // value
    real32,   // value: the bits of an f32
    real64,   // value: the bits of an f64
    vector,   // items: {a, b}
    address,  // items[0] (+ value): [a + 16]; [a, {x, y}]: items[1] is the vector
    pair,     // items: a|b
    list,     // items: (a, b), of a call
    part,     // reg, name: r.b0 of a video instruction, or -r (negated)
    sink,     // _
  };
  Kind kind = Kind::sink;
  bool negated = false;  // !%p
  std::uint32_t reg = 0;
  std::uint64_t value = 0;
  std::string_view name;
  std::vector<Operand> items;
};

struct SourcePlace {
  std::uint32_t file = 0;  // number of the .file directive
  std::uint32_t line = 0;  // 0: unknown
};

struct Statement {
  std::vector<std::string_view> opcode;  // split at the dots: "ld", "global", "f32"
  std::vector<Operand> operands;
  bool guarded = false;
  bool guard_negated = false;
  std::uint32_t guard = 0;  // register
  int line = 0;             // of the PTX text
  int scope = 0;            // where its labels are looked up
  SourcePlace place;        // from .loc
};

struct Label {
  std::string_view name;
  int scope = 0;
  std::uint32_t statement = 0;  // index of the first statement behind it
};

// $L_brx_0: .branchtargets a, b, c;
struct BranchTargets {
  std::string_view name;
  int scope = 0;
  std::vector<std::string_view> targets;
  int line = 0;
};

// prototype_0: .callprototype (.param .b32 _) _ (.param .b64 _);
struct CallPrototype {
  std::string_view name;
  int scope = 0;
  std::vector<std::uint64_t> parameter_bytes;
  std::vector<std::uint64_t> result_bytes;
};

struct SymbolReference {
  std::uint64_t offset = 0;  // of the 8 bytes in the variable that hold the address
  std::string_view name;
  std::int64_t addend = 0;
};

struct Variable {
  std::string name;
  Space space = Space::global;
  std::uint64_t alignment = 1;
  std::uint64_t bytes = 0;
  bool is_dynamic = false;  // .extern .shared name[]
  bool initialised = false;
  std::vector<unsigned char> contents;  // of initialised variables; the rest is zero
  std::vector<SymbolReference> references;
  int line = 0;
  int scope = 0;  // of a .param variable in a body
};

// A kernel or a function.
struct KernelText {
  std::string name;
  int line = 0;
  std::vector<Variable> parameters;  // offsets follow from sizes and alignments
  std::vector<Variable> results;     // of a function
  bool has_body = true;              // false for a declaration
  std::vector<Register> registers;
  std::vector<Variable> variables;  // shared, local, and the .param variables of calls
  std::vector<Statement> statements;
  std::vector<Label> labels;
  std::vector<BranchTargets> branch_targets;
  std::vector<CallPrototype> prototypes;
  std::vector<int> scope_parent;                  // scope 0 is the body, its parent -1
  std::uint32_t max_threads = 0;                  // .maxntid as a product; 0: none
  std::uint32_t required_block[3] = {0, 0, 0};    // .reqntid; zeros: none
  std::uint32_t required_cluster[3] = {0, 0, 0};  // .reqnctapercluster; zeros: none
};

struct SourceFile {
  std::uint32_t number = 0;
  std::string_view path;
};

// Points into the text it was parsed from.
struct ModuleText {
  std::string_view target;  // "sm_90a"
  std::vector<Variable> variables;
  std::vector<KernelText> kernels;
  std::vector<KernelText> functions;
  std::vector<SourceFile> files;
};

// Throws Error(device_failed) for text that is not PTX, Error(unsupported) for directives the emulator does not know;
// both name the line.
ModuleText parse_module(std::string_view text);

}  // namespace gdnjit::emulator
