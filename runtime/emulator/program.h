// A decoded kernel: what the parser's text becomes before anything runs. Immutable, shared by all worker threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/emulator/exec/video.h"
#include "runtime/emulator/ptx/syntax.h"
#include "runtime/emulator/tensor_op.h"
#include "runtime/emulator/types.h"

namespace gdnjit::emulator {

struct Warp;
struct Instruction;

// Executes one decoded instruction for the lanes of Warp::mask.
using Handler = void (*)(Warp&, const Instruction&);

// What an instruction counts as; the fields of LaunchCounters.
enum class Class : std::uint8_t {
  float_arithmetic,
  integer_arithmetic,
  special_function,
  conversion,
  tensor_core,
  shuffle,
  control,
  data_movement,
  global_load,
  global_store,
  shared_load,
  shared_store,
  local,
  other,
};

// An operand after decoding. Every value lives in the warp's register file, immediates and special registers too,
// so no instruction asks what kind its operands are.
struct Slot {
  std::uint32_t offset = 0;  // bytes into the register file; for predicates the index into Warp::predicates
  std::uint16_t id = 0;      // index into Warp::written; 0: always written
};

// Ids 0 and 1 are the constants true and false; both count as written.
inline constexpr std::uint16_t kConstantId = 0;
inline constexpr std::uint16_t kFalseId = 1;
inline constexpr std::uint16_t kFirstRegisterId = 2;

struct Instruction {
  Handler run = nullptr;
  Slot dst, a, b, c;
  // Ids that must be defined (kConstantId where there is nothing to check), and the id that the result defines. What
  // follows from an undefined value is undefined; a critical instruction (addresses, stores, votes, barriers) faults.
  std::uint16_t checked[4] = {0, 0, 0, 0};
  std::uint16_t marked = kConstantId;
  bool critical = false;
  std::uint16_t guard = kConstantId;
  std::uint32_t guard_flip = 0;  // all ones for @!p
  Class counted = Class::other;
  std::uint8_t count = 1;     // elements of a vector access
  std::uint8_t flags = 0;     // of the handler
  Order order = Order::weak;  // of a memory access or a fence
  Scope scope = Scope::gpu;
  std::uint32_t target = 0;  // branch target, or first of Program::targets
  std::uint32_t target_count = 0;
  std::uint32_t operands = 0;  // first of Program::operands, for instructions with more than four
  std::uint32_t index = 0;     // of this instruction
  std::int64_t immediate = 0;  // address offset, look-up table, ...
};

// Where an instruction came from.
struct InstructionPlace {
  int ptx_line = 0;
  SourcePlace source;
};

// A register that holds the same value in every lane, or a value per lane that the block's start sets.
struct ConstantSlot {
  std::uint32_t offset = 0;
  bool wide = false;  // 64-bit lanes
  std::uint64_t value = 0;
};
enum class Special : std::uint8_t {
  tid_x,
  tid_y,
  tid_z,
  ntid_x,
  ntid_y,
  ntid_z,
  ctaid_x,
  ctaid_y,
  ctaid_z,
  nctaid_x,
  nctaid_y,
  nctaid_z,
  cluster_ctaid_x,
  cluster_ctaid_y,
  cluster_ctaid_z,
  cluster_nctaid_x,
  cluster_nctaid_y,
  cluster_nctaid_z,
  clusterid_x,
  clusterid_y,
  clusterid_z,
  nclusterid_x,
  nclusterid_y,
  nclusterid_z,
  cluster_ctarank,
  cluster_nctarank,
  laneid,
  warpid,
  nwarpid,
  smid,
  nsmid,
  lanemask_eq,
  lanemask_le,
  lanemask_lt,
  lanemask_ge,
  lanemask_gt,
  dynamic_smem_size,
  total_smem_size,
  aggr_smem_size,
  zero,
};
struct SpecialSlot {
  std::uint32_t offset = 0;
  bool wide = false;
  Special special = Special::tid_x;
};

// Memory of a module's .global and .const variables, shared by its kernels.
struct ModuleMemory {
  struct Range {
    std::string name;
    std::uint64_t begin = 0;
    std::uint64_t bytes = 0;
    bool writable = true;
  };
  std::unique_ptr<std::byte[]> bytes;
  std::vector<Range> ranges;
};

struct NamedRange {
  std::string name;
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
  std::string label;  // as the source has it, for reports
};

// ---- calls. A thread's local memory is its stack: each function has a frame with its local variables, its
// parameters and results, and those of the functions it calls.

// A parameter or a result in a frame.
struct FramePlace {
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
};

// Functions that every CUDA program may call and that no module defines.
enum class Builtin : std::uint8_t { none, assertfail, vprintf };

struct Function {
  std::string name;
  Builtin builtin = Builtin::none;
  std::uint32_t start = 0;  // instruction
  std::uint32_t frame_bytes = 0;
  std::vector<FramePlace> parameters = {};
  std::vector<FramePlace> results = {};
  // What a call of a function that may be active already puts aside: its registers and the range of their ids.
  struct Saved {
    std::uint32_t offset = 0;  // into the register file
    std::uint32_t bytes = 0;   // of a lane
  };
  std::vector<Saved> registers = {};
  std::uint16_t first_id = 0;
  std::uint16_t end_id = 0;
  bool recursive = false;
};

inline constexpr std::uint32_t kIndirect = ~0U;

struct CallSite {
  std::uint32_t instruction = 0;
  std::uint32_t caller = 0;          // function
  std::uint32_t callee = kIndirect;  // function, or operand a holds its address
  std::vector<FramePlace> arguments = {};
  std::vector<FramePlace> results = {};
};

// The address of function `index`: no memory is there.
constexpr std::uint64_t function_address(std::uint32_t index) { return (0x7fffULL << 48) + 16ULL * index; }

// An instruction other than wgmma that writes registers which a wgmma uses; execute_guarded stands in its place.
struct GuardedWrite {
  Handler run = nullptr;                    // its own handler
  std::vector<std::uint16_t> ids;           // what it writes of those registers
  bool copies = false;                      // a mov of a constant or a register
  std::uint16_t copied_from = kConstantId;  // that register
};

struct Program {
  std::string name;
  std::string target;                    // "sm_90a"
  std::string text;                      // the PTX, for reports
  std::vector<std::size_t> line_starts;  // of text
  std::vector<std::string> files;        // by .file number

  std::vector<Instruction> instructions;  // ends with a ret
  std::vector<InstructionPlace> places;   // beside instructions
  std::vector<Slot> operands;
  std::vector<std::uint32_t> targets;
  std::vector<TensorOp> tensor_ops;
  std::unordered_map<std::uint32_t, GuardedWrite> guarded_writes;  // by instruction

  std::uint32_t lane_bytes = 0;  // size of a warp's register file
  std::uint32_t ids = kFirstRegisterId;
  std::vector<std::string> id_names;
  std::vector<ConstantSlot> constants;
  std::vector<SpecialSlot> specials;

  std::uint32_t parameter_bytes = 0;
  std::uint32_t static_shared_bytes = 0;  // as declared
  std::uint32_t shared_extent = 0;        // of the static variables as laid out here, gaps included
  std::uint32_t local_bytes = 0;          // per thread
  std::vector<NamedRange> shared_variables;
  std::vector<Function> functions;  // 0 is the kernel
  std::vector<CallSite> calls;
  std::vector<VideoSpec> video;
  Slot frame;  // where the thread's frame begins in its local memory; 64-bit lanes, 0 in the kernel
  std::uint32_t max_threads = 1024;
  std::uint32_t required_block[3] = {0, 0, 0};
  std::uint32_t required_cluster[3] = {0, 0, 0};  // of .reqnctapercluster; 0: none
  std::shared_ptr<const ModuleMemory> memory;

  // "line 12: add.f32 %f1, %f2, %f3;" with the template's place where known.
  std::string describe(std::uint32_t instruction) const;
};

}  // namespace gdnjit::emulator
