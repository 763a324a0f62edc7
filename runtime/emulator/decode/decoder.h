// Turns a parsed kernel into a Program. One decoder works on one kernel; the families of instructions are its member
// functions, each in the file of its family.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/emulator/exec/handlers.h"
#include "runtime/emulator/program.h"
#include "runtime/emulator/ptx/syntax.h"
#include "runtime/support/check.h"

namespace gdnjit::emulator {

struct AsyncSpec;
enum class FenceKind : std::uint8_t;
enum class FenceScope : std::uint8_t;

// Where the module's variables are. Global ones have host addresses, shared ones live in the block.
struct ModuleSymbols {
  std::unordered_map<std::string_view, std::uint64_t> global;
  std::vector<const Variable*> shared;
  std::unordered_map<std::string_view, const KernelText*> functions;  // those with a body
};

// The number of a function that the program calls or names, new on its first use. Throws if nobody defines it.
std::uint32_t function_index(Program& program, const ModuleSymbols& symbols, std::string_view name);

// Finds recursion and sizes the threads' stacks. REQUIRES: every function of the program is decoded.
void link_calls(Program& program);

class Decoder {
 public:
  // `function` is the place in Program::functions; 0 for the kernel.
  Decoder(const KernelText& kernel, const ModuleSymbols& symbols, const ExecutionSet& set, Program& program,
          std::uint32_t function = 0)
      : kernel_(kernel), symbols_(symbols), set_(set), program_(program), function_(function) {}

  // Fills the program. Throws Error(unsupported) for what the emulator does not execute and Error(device_failed)
  // for what is not PTX; both name the line and its text.
  void decode();
  // Appends a function to the program. REQUIRES: the kernel is decoded.
  void decode_function();

 private:
  friend std::vector<std::string_view> known_instructions();
  using Family = void (Decoder::*)();
  static const std::unordered_map<std::string_view, Family>& families();

  // ---- the statement at hand
  // Takes a modifier if it is there, anywhere behind the opcode's root.
  bool take(std::string_view modifier);
  // Takes the first modifier that names a type.
  std::optional<Type> take_type();
  Type need_type();
  Round take_round();      // rn rz rm rp
  Round take_any_round();  // also rni rzi rmi rpi rna
  Space take_space();      // default: generic
  void take_cache_hints();
  void take_ordering();
  std::size_t operand_count() const { return statement_->operands.size(); }
  const Operand& operand(std::size_t index) const;
  void expect_operands(std::size_t least, std::size_t most);

  // ---- operands to slots
  Slot source(const Operand& operand, Type type);         // value of a type's size
  Slot source_any(const Operand& operand, int bytes);     // of a size
  Slot predicate(const Operand& operand, bool* negated);  // predicate register
  Slot destination(const Operand& operand, Type type);    // a register of a type's size, or '_'
  Slot register_slot(std::uint32_t index);
  Slot scratch(Type type);
  Slot constant(std::uint64_t value, bool wide);
  Slot special(std::string_view name, int bytes);  // tid and its like
  Slot symbol_address(const Operand& operand, int bytes);
  void address(const Operand& operand, Space space);  // sets a and immediate, key_.wide_address
  int register_bytes(const Operand& operand) const;   // 4 (also for 16 bits) or 8; 0 for a predicate
  std::optional<std::uint64_t> symbol_value(std::string_view name) const;

  void check(Slot slot);  // the value is used: it must have been written
  void mark(Slot slot) { inst_.marked = slot.id; }
  void use(Slot& field, Slot slot) {
    field = slot;
    check(slot);
  }
  std::uint32_t add_operands(std::span<const Slot> slots);
  std::uint32_t branch_target(std::string_view label, int scope) const;

  void finish(Opcode op, Class counted);  // finds the handler, appends the instruction

  template <typename... Args>
  [[noreturn]] void malformed(fmt::format_string<Args...> format, Args&&... args) const {
    raise(ErrorCode::device_failed, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    raise(ErrorCode::unsupported, fmt::format(format, std::forward<Args>(args)...));
  }
  [[noreturn]] void raise(ErrorCode code, const std::string& what) const;

  // ---- layout
  void lay_out_parameters();
  void lay_out_variables();
  std::uint64_t shared_gap() const;
  void resolve_labels();
  void decode_body();
  void track_parts(std::size_t first);
  void place_in_frame(const Variable& variable, int scope);
  std::optional<std::uint64_t> frame_offset(std::string_view name) const;
  Slot frame_slot();

  // ---- arithmetic.cpp
  void add_sub();
  void mul();
  void mad();
  void fma();
  void div();
  void rem();
  void min_max();
  void min_max_3(Opcode op, Type type);
  void mixed(Opcode op, Type type, Type narrow);
  void abs_neg();
  void copysign();
  void square_root();
  void reciprocal();
  void rounded_or_approximate(Opcode rounded, Opcode approximation);
  void rsqrt();
  void approximate();
  void sad();
  // ---- integers.cpp
  Slot carry_slot();
  void carry_arithmetic(Opcode op, Type type, bool reads, bool writes);
  void with_carry();
  void dot_product();
  void product_24();
  void bit_mask();
  void fns();
  void lop3_predicate(BoolOp combine);
  void three_words(Opcode op);
  // ---- video.cpp
  void video();
  void video_scalar(VideoSpec spec);
  void finish_video(VideoSpec spec, const Operand& target);
  Slot part(const Operand& operand, std::string_view* selector, bool* negated);
  std::uint8_t take_comparison();
  std::uint8_t scalar_selector(std::string_view text) const;
  std::uint16_t lane_selector(std::string_view text, std::uint32_t elements, std::uint16_t standard) const;
  std::uint8_t lane_mask(std::string_view text, std::uint32_t elements) const;
  // ---- bits.cpp
  void logic();
  void shift();
  void funnel();
  void lop3();
  void prmt();
  void bfe();
  void bfi();
  void bfind();
  void count_bits();
  void setp();
  void set();
  void selp();
  void slct();
  void testp();
  void comparison(Type& compared, bool& combined);
  std::int64_t truth_of_set(Type result, Type compared) const;
  void unary_bits(Opcode op, Type type, Type result);
  void binary_same(Opcode op, Type type, Class counted);
  // ---- memory.cpp
  void mov();
  void pack();
  void unpack();
  void cvta();
  void isspacep();
  void ld();
  void st();
  void move_128(Opcode op, Space space);
  // ---- atomic.cpp
  std::size_t take_policy();
  AtomicOp take_atomic_op();
  void atom();
  void atom_vector(int elements, bool returns);
  void create_policy();
  void cache_control();
  void prefetch();
  void cvt();
  // ---- convert.cpp
  void cvt_pack(Type to);
  void cvt_narrow();
  void cvt_integers();
  // ---- cluster.cpp
  void cluster_barrier();
  void mapa();
  void getctarank();
  // ---- call.cpp
  void call();
  void take_arguments(CallSite& site, const Operand* results, const Operand* arguments);
  FramePlace argument_place(const Operand& operand) const;
  void frame_address(std::uint64_t offset, Type type);
  // ---- tensor.cpp
  void mma();
  void matrix_access();
  void movmatrix();
  void wgmma();
  void wgmma_multiply();
  void setmaxnreg();
  void need_sync_aligned();
  void take_shape_and_types(TensorOp& op, int m, std::span<ElementType* const> types);
  void matrix_registers(const Operand& operand, std::size_t count, bool is_destination, std::vector<Slot>& slots);
  std::int64_t small_constant(std::size_t index, std::int64_t low, std::int64_t high);
  void guard_wgmma_registers(std::size_t first);
  // ---- async.cpp
  void cp();
  void small_copy();
  void bulk(bool reduces);
  void bulk_prefetch();
  void bulk_copy(AsyncSpec spec);
  void tensor(AsyncSpec spec, bool prefetches);
  void prefetch_tensormap();
  void createpolicy();
  void reduction(AsyncSpec& spec);
  void async_wait(Opcode op);
  bool completion();
  Space take_space_in_order();
  void async_address(std::vector<Slot>& slots, AsyncSpec& spec, const Operand& value, Space space);
  void tensor_operand(std::vector<Slot>& slots, AsyncSpec& spec, std::vector<Slot>& coordinates, const Operand& value);
  void cache_policy(std::vector<Slot>& slots, std::size_t& operands);
  void finish_async(Opcode op, Class counted, const AsyncSpec& spec, const std::vector<Slot>& slots);
  // ---- mbarrier.cpp
  void mbarrier();
  void mbarrier_address(const Operand& value, bool remote);
  void mbarrier_change(Opcode op);
  void mbarrier_arrive(bool drops);
  void mbarrier_wait(Opcode op);
  void fence();
  FenceKind proxy_fence();
  FenceScope fence_scope();
  // ---- control.cpp
  void bra();
  void brx();
  void ret();
  void trap();
  void barrier();
  void shfl();
  void vote();
  void activemask();
  void match();
  void redux();
  void elect();
  void no_effect();
  void pmevent();

  const KernelText& kernel_;
  const ModuleSymbols& symbols_;
  const ExecutionSet& set_;
  Program& program_;
  std::uint32_t function_;

  const Statement* statement_ = nullptr;
  std::vector<std::string_view> modifiers_;  // not taken yet
  Instruction inst_;
  OpKey key_;
  int checks_ = 0;
  std::uint16_t scratch_predicate_ = kConstantId;
  std::uint16_t carry_ = kConstantId;
  std::uint32_t scratch_offset_ = 0;

  std::vector<Slot> registers_;  // by index in kernel_.registers; id 0: not used so far
  std::map<std::pair<std::uint64_t, bool>, std::uint32_t> constants_;
  std::unordered_map<std::string, std::uint64_t> specials_;            // "name/bytes" -> offset
  std::unordered_map<std::string_view, std::uint64_t> local_symbols_;  // parameters, shared and local variables
  std::map<std::pair<int, std::string_view>, std::uint32_t> labels_;
  std::map<std::pair<int, std::string_view>, FramePlace> frame_symbols_;
  std::uint64_t frame_bytes_ = 0;
  std::set<std::uint16_t> wgmma_registers_;  // ids of accumulators and A fragments
};

// The instructions that the decoder knows by the first word of their opcodes, sorted. Not every form of them is known.
std::vector<std::string_view> known_instructions();

// Parses and decodes a module. Returns the kernel named `entry`.
std::shared_ptr<const Program> load_program(std::string_view ptx, std::string_view entry, const ExecutionSet& set);

}  // namespace gdnjit::emulator
