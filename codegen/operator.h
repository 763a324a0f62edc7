// An Operator is everything the project knows about one kernel family on the host side. The rooms above (cache,
// tuner, tools) see only this interface and text fields, so a new kernel is a new Operator and one registry line.
#pragma once

#include <gdnjit/tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/call.h"
#include "codegen/fields.h"
#include "codegen/kernel_spec.h"
#include "codegen/tensor_map.h"

namespace gdnjit {

// The facts of a device that tile choices depend on.
struct DeviceTraits {
  std::string arch = "sm_90a";
  int sm_count = 132;
  int registers_per_sm = 65536;
  int threads_per_sm = 2048;
  int blocks_per_sm = 32;
  int shared_bytes_per_sm = 233472;
  int shared_bytes_per_block = 232448;  // with opt-in
  std::int64_t l2_bytes = 50LL << 20;
  double memory_bytes_per_us = 4.3e6;  // copy bandwidth, both directions counted
};

enum class TensorRole : unsigned char {
  input,
  output,  // contents before the call do not matter
  in_out,
  scratch,  // nor do they after it: memory that the call's kernels use between each other
};

// Whether a call's result depends on the contents before it, and whether its contents after the call are a result.
constexpr bool is_read(TensorRole role) { return role == TensorRole::input || role == TensorRole::in_out; }
constexpr bool is_written(TensorRole role) { return role == TensorRole::output || role == TensorRole::in_out; }

// One tensor of a call, as a problem describes it.
struct TensorSpec {
  std::string name;  // "q", "state_in"
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;  // with the problem's B
  TensorRole role = TensorRole::input;
  std::string indexes{};  // its values are rows of this tensor, a pool; "" for other tensors
  std::string rows_of{};  // its rows belong to those of this pool, and the same values name both; "" for other tensors
};

// What the shapes of a call's tensors say about it.
struct CallDescription {
  FieldMap problem;                 // with the call's B and T (of a ragged batch the average, rounded up)
  std::vector<TensorSpec> tensors;  // with the call's shapes
};

// A problem with its tiles on one architecture: the kernels of a call, and what each is launched with. Immutable and
// thread-safe.
class Instance {
 public:
  virtual ~Instance() = default;
  // At least one, in the order of their launches in one stream. A call launches all of them, or some that follow each
  // other, at most Call::kMaxKernels.
  virtual std::span<const KernelSpec> kernels() const = 0;
  // How each would be launched for the problem's own B and T; a call's grids follow its tensors.
  virtual std::vector<LaunchGeometry> geometries() const = 0;
  // Checks `tensors` (in the order of Operator::tensors) against the problem and adds the launch of every kernel to
  // `call`, which is empty; none if there is nothing to do (B = 0). `encoder` belongs to the device that will launch.
  // Throws invalid_argument naming argument, value and rule. Allocates nothing.
  virtual void pack(std::span<const TensorView> tensors, TensorMapEncoder& encoder, Call& call) const = 0;
  // Bytes of the tensor "workspace" that calls of up to that many sequences and tokens need: T of each sequence, or all
  // tokens of a ragged batch. 0 if they need none.
  virtual std::int64_t workspace_bytes(std::int64_t /*sequences*/, std::int64_t /*tokens*/) const { return 0; }
};

// The field of a complete problem that counts what its calls may have any number of, B sequences or M tokens: plans
// serve every value, and measured tiles those near them.
inline std::string_view batch_field(const FieldMap& problem) { return find_field(problem, "M") ? "M" : "B"; }

// What must move and be computed at the least, for floors and models.
struct Footprint {
  std::int64_t bytes_read = 0;
  std::int64_t bytes_written = 0;
  std::int64_t flops = 0;
};

class Operator;

// One of the operators that an operator without kernels of its own is made of. A part's tiles are tiles of the whole,
// as
// "<name>.<tile>".
struct OperatorPart {
  std::string name;
  const Operator* op = nullptr;
  FieldMap problem;  // complete
};

// Up to a value of `field` calls run one part, beyond it another; `tile`, a tile of the whole, holds that value.
struct Crossover {
  std::string tile, field;
  std::string below, above;  // parts
};

class Operator {
 public:
  virtual ~Operator() = default;
  virtual std::string_view name() const = 0;

  // Completes a partial problem with defaults, checks every rule, and returns all fields in canonical order.
  virtual FieldMap complete(const FieldMap& problem) const = 0;

  // The problem as a tuning bucket sees it: fields that pick tiles but do not change what is right are rounded
  // (B to a power of two).
  virtual FieldMap tuning_bucket(const FieldMap& problem) const = 0;

  // The heuristic choice: never wrong, needs no measurement. Field names are those of the tile struct.
  virtual FieldMap default_tiles(const FieldMap& problem, const DeviceTraits& device) const = 0;

  // Every candidate worth compiling, the default first, in the fixed order that decides ties.
  virtual std::vector<FieldMap> search_space(const FieldMap& problem, const DeviceTraits& device) const = 0;

  // Throws invalid_argument if the tiles cannot serve the problem.
  virtual std::shared_ptr<const Instance> instantiate(const FieldMap& problem, const FieldMap& tiles,
                                                      const Target& target) const = 0;

  virtual std::vector<TensorSpec> tensors(const FieldMap& problem) const = 0;
  // For a plan's problem and a call of it. Looks at the shapes of the inputs and of nothing else; where one does not
  // fit the problem, the description has what the problem says. Throws invalid_argument for tensors of the wrong number
  // or rank.
  virtual CallDescription describe_call(const FieldMap& problem, std::span<const TensorView> tensors) const = 0;
  virtual Footprint footprint(const FieldMap& problem) const = 0;

  // Of an operator that runs others: what it is made of, what the tuner may find out about it, and, for people, what a
  // call of the problem's own B and T runs and why.
  virtual std::vector<OperatorPart> parts(const FieldMap& /*problem*/) const { return {}; }
  // Whether a call runs all parts, one after another, and not one of them. Such an operator is tuned by tuning them.
  virtual bool runs_all_parts() const { return false; }
  virtual std::optional<Crossover> crossover(const FieldMap& /*problem*/) const { return std::nullopt; }
  virtual std::string decision(const FieldMap& /*problem*/, const FieldMap& /*tiles*/) const { return ""; }
};

}  // namespace gdnjit
