#include "tests/reference/given_call.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codegen/gdn/recurrent.h"
#include "runtime/support/check.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/gdn_step_layout.h"

namespace gdnjit::reference {
namespace {

using gdn::RecurrentProblem;
using gdn::StatePlace;
using gdn::StepProblem;

std::int64_t rows_of(const std::vector<HostTensor>& tensors, std::string_view pool) {
  for (const HostTensor& tensor : tensors) {
    if (tensor.spec.name == pool) return tensor.spec.shape[0];
  }
  GDNJIT_CHECK(false, "a call with slots and without {}", pool);
}

// Every slot is a row of its pool or a sentinel.
void require_rows(std::string_view name, std::span<const std::int64_t> slots, std::int64_t rows,
                  const StepProblem& layer) {
  for (std::size_t i = 0; i < slots.size(); ++i) {
    require(is_sentinel(layer, slots[i]) || (slots[i] >= 0 && slots[i] < rows), "{}[{}]={}: the pool has {} rows", name,
            i, slots[i], rows);
  }
}

// No row is written twice: which state would stay is anybody's guess.
void require_distinct(std::string_view pool, std::vector<std::int64_t> rows) {
  std::erase(rows, -1);
  std::sort(rows.begin(), rows.end());
  const auto twice = std::adjacent_find(rows.begin(), rows.end());
  require(twice == rows.end(), "{}: row {} is written twice", pool, twice == rows.end() ? -1 : *twice);
}

}  // namespace

std::vector<HostTensor> given_tensors(const CallDescription& call, std::vector<std::vector<std::byte>> contents) {
  GDNJIT_CHECK(contents.size() == call.tensors.size(), "{} contents for {} tensors", contents.size(),
               call.tensors.size());
  std::vector<HostTensor> tensors = poisoned_tensors(call.tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    HostTensor& tensor = tensors[i];
    if (!is_read(tensor.spec.role)) continue;
    require(contents[i].size() == tensor.bytes.size(), "{}: has {} bytes, the problem asks for {}", tensor.spec.name,
            contents[i].size(), tensor.bytes.size());
    tensor.bytes = std::move(contents[i]);
  }
  return tensors;
}

void require_valid_indices(const StepProblem& problem, const std::vector<HostTensor>& tensors) {
  const StepInputs inputs = unpack_indices(problem, tensors);
  if (problem.state_store == gdn::StateStore::pool) {
    const std::int64_t rows = rows_of(tensors, "state_in");
    require_rows("read_slot", inputs.read_slot, rows, problem);
    require_rows("write_slot", inputs.write_slot, rows, problem);
    require_rows("accepted_slot", inputs.accepted_slot, rows, problem);
    require_rows("step_slot", inputs.step_slot, rows, problem);
  }
  for (std::size_t i = 0; i < inputs.num_accepted.size(); ++i) {
    const std::int64_t accepted = inputs.num_accepted[i];
    require(accepted >= 0 && accepted <= inputs.accepted_columns, "num_accepted[{}]={}: must be 0 to {}", i, accepted,
            inputs.accepted_columns);
  }
  for (std::size_t i = 0; i < inputs.parent.size(); ++i) {
    const auto token = static_cast<std::int64_t>(i) % problem.tokens;
    require(inputs.parent[i] < token, "parent[{}]={}: must be below {}, the token's own number", i, inputs.parent[i],
            token);
  }
  StepRows rows = written_rows(problem, inputs);
  if (problem.state_steps == StatePlace::pool)
    rows.state.insert(rows.state.end(), rows.steps.begin(), rows.steps.end());
  require_distinct("state_in", std::move(rows.state));
}

void require_valid_indices(const RecurrentProblem& problem, const std::vector<HostTensor>& tensors,
                           std::span<const std::int64_t> checkpoint_rows) {
  const RecurrentInputs inputs = unpack_indices(problem, tensors);
  const StepProblem layer = gdn::layer_of(problem);
  const bool pool_in = problem.initial_state == StatePlace::pool, pool_out = problem.final_state == StatePlace::pool;
  if (pool_in) require_rows("read_slot", inputs.read_slot, rows_of(tensors, "state_in"), layer);
  if (pool_out) {
    require_rows("write_slot", inputs.write_slot, rows_of(tensors, pool_in ? "state_in" : "state_out"), layer);
  }
  for (const std::int64_t row : checkpoint_rows) {
    const std::int64_t rows = rows_of(tensors, pool_in ? "state_in" : "state_out");
    require(row < rows, "checkpoint_slot: row {}: the pool has {} rows", row, rows);
  }
  const std::int64_t tokens = token_count(tensors);
  std::int64_t least = 0;
  for (std::size_t i = 0; i < inputs.start.size(); ++i) {
    require(inputs.start[i] >= least && inputs.start[i] <= tokens, "cu_seqlens[{}]={}: must be {} to {}", i,
            inputs.start[i], least, tokens);
    least = inputs.start[i];
  }
  std::vector<std::int64_t> written = written_rows(problem, inputs);
  if (pool_in && !pool_out) written.clear();  // final states lie elsewhere
  written.insert(written.end(), checkpoint_rows.begin(), checkpoint_rows.end());
  require_distinct(pool_in ? "state_in" : "state_out", std::move(written));
}

}  // namespace gdnjit::reference
