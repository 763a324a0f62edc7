// gdn.chunk's prepare kernel by itself, against A, P and the factors in double precision.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/gdn/chunk_fixture.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

namespace {

struct Errors {
  double a = 0, p = 0, factors = 0;  // rms ratios over all records of a call
};

void append(std::vector<double>& all, const std::vector<double>& some) {
  all.insert(all.end(), some.begin(), some.end());
}

Errors errors_of(const ChunkCall& call, const std::vector<int>& lengths, int heads_v) {
  std::vector<double> x[5], y[5];
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    for (int chunk = 0; chunk * kChunk < lengths[b]; ++chunk) {
      for (int hv = 0; hv < heads_v; ++hv) {
        const auto gather = [](const ChunkCall::Record& record, std::vector<double>(&all)[5]) {
          append(all[0], record.a), append(all[1], record.p);
          append(all[2], record.state), append(all[3], record.query), append(all[4], record.key);
          append(all[2], record.strength), all[2].push_back(record.decay);
        };
        gather(call.record(static_cast<int>(b), chunk, hv), x);
        gather(call.expected_record(static_cast<int>(b), chunk, hv), y);
      }
    }
  }
  return {rms_ratio(x[0], y[0]), rms_ratio(x[1], y[1]),
          std::max({rms_ratio(x[2], y[2]), rms_ratio(x[3], y[3]), rms_ratio(x[4], y[4])})};
}

// Rounding A and P to their type costs at most 2^-8 with bf16 and 2^-11 with fp16, over many elements about 0.43 of
// that (a little more with fp16, where A's small elements are subnormal). Nothing else may cost as much, but fp32
// inputs are rounded to bf16 before they are multiplied.
void check(const ChunkCall& call, const ChunkSource& source, const std::vector<int>& lengths) {
  CAPTURE(source.text);
  const Errors errors = errors_of(call, lengths, source.config.heads_v);
  const double rounding = source.config.operand_dtype() == DType::bf16 ? 0x1p-8 : 0x1p-11;
  const double share = lengths[0] < 8 ? 1.001 : source.config.io_dtype == DType::f32 ? 0.9 : 0.6;
  CHECK(errors.a < share * rounding);
  CHECK(errors.p < share * rounding);
  CHECK(errors.factors < 1e-4);
}

void check(const ChunkSource& source, const std::vector<int>& lengths, Inputs inputs = Inputs::typical,
           const std::string& arch = "sm_90a") {
  ChunkCall call(source, lengths, inputs, 5, arch);
  call.prepare();
  check(call, source, lengths);
}

}  // namespace

TEST_CASE("records of full chunks and of tails agree with double precision") {
  for (int length : {1, 15, 16, 17, 31, 33, 63, 64, 65, 130}) {
    CAPTURE(length);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .io_dtype = DType::f16), {length});
  }
}

TEST_CASE("any K, type and alignment of q and k") {
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 64), {70, 70});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 96), {70});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 200), {70});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 256), {70});
  check(
      GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 2, .head_dim_k = 60, .tiles = ChunkTiles::key_head, .io_vector = 4),
      {70});
  check(
      GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 2, .head_dim_k = 33, .tiles = ChunkTiles::key_head, .io_vector = 1),
      {70});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 2, .head_dim_k = 190, .io_dtype = DType::f16,
                            .tiles = ChunkTiles::key_head, .io_vector = 2),
        {70});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 4, .head_dim_k = 128, .io_dtype = DType::f32,
                            .tiles = ChunkTiles::key_head, .io_vector = 4),
        {70});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 1, .head_dim_k = 257, .io_dtype = DType::f32,
                            .tiles = ChunkTiles::key_head, .io_vector = 1),
        {70});
}

TEST_CASE("any number of value heads to a key head, in both orders, on every architecture") {
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 2), {70}, Inputs::typical, "sm_80");
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 6), {70}, Inputs::typical, "sm_120");
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 2, .heads_v = 6, .head_map = HeadMap::modulo), {70});
  check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 8), {70}, Inputs::typical, "sm_100");
}

TEST_CASE("norms, gates and write strengths, on vectors and decays of every size") {
  for (Inputs inputs : {Inputs::typical, Inputs::brutal}) {
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .io_dtype = DType::f16), {64}, inputs);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .io_dtype = DType::f16,
                              .gate_dtype = DType::f32, .norm = Norm::max_eps, .gate = Gate::log,
                              .beta = Beta::two_sigmoid, .tiles = ChunkTiles::key_head),
          {64}, inputs);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .io_dtype = DType::f16,
                              .gate_dtype = DType::f32, .beta_dtype = DType::f32, .norm = Norm::add_eps,
                              .gate = Gate::alpha, .beta = Beta::given, .tiles = ChunkTiles::key_head),
          {64}, inputs);
    check(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 64, .io_dtype = DType::f16, .scale = 0.25f,
                              .norm = Norm::none, .gate = Gate::none, .beta = Beta::none),
          {64}, inputs);
  }
}

TEST_CASE("the inverse of a chunk of nearly equal keys is exact to the rounding of the result") {
  // All keys are one vector and a little noise: L is beta times ones. With beta 1 the inverse is nearly bidiagonal,
  // everything else cancels; with beta 2 its entries are 2 and -2 all over.
  const ChunkSource source = GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 4, .io_dtype = DType::f16,
                                                 .beta_dtype = DType::f32, .gate = Gate::none, .beta = Beta::given);
  for (double noise : {0.0, 0.01, 0.1}) {
    CAPTURE(noise);
    ChunkCall call(source, {64}, Inputs::typical, 9);
    reference::LayerInputs& numbers = call.numbers();
    reference::Random random(17);
    for (int token = 1; token < 64; ++token) {
      for (int i = 0; i < 128; ++i) {
        numbers.k[static_cast<std::size_t>(token * 128 + i)] =
            numbers.k[static_cast<std::size_t>(i)] + noise * random.normal();
      }
    }
    for (std::size_t i = 0; i < numbers.b.size(); ++i) numbers.b[i] = 0.5 * static_cast<double>(i % 4 + 1);
    call.round();
    call.prepare();
    check(call, source, {64});
  }
}

TEST_CASE("decays far below fp32's range, and gates that are exactly 0 and 1") {
  const ChunkSource source = GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .io_dtype = DType::f16,
                                                 .gate_dtype = DType::f32, .gate = Gate::log);
  ChunkCall call(source, {64}, Inputs::typical, 9);
  // Blocks of calm tokens between forgetful ones: what is calm must be exact also after a decay of e^-1000000.
  for (int token = 0; token < 64; ++token) {
    call.numbers().a[static_cast<std::size_t>(2 * token)] = token % 9 == 4 ? -1e6 : token % 2 == 0 ? 0.0 : -0.1;
    call.numbers().a[static_cast<std::size_t>(2 * token + 1)] = token < 20 ? -1000.0 / 20 : token % 5 == 0 ? -0.5 : 0.0;
  }
  call.round();
  call.prepare();
  check(call, source, {64});

  // A decay of exactly 0 is an infinite logarithm.
  const ChunkSource alphas = GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .io_dtype = DType::f16,
                                                 .gate_dtype = DType::f32, .gate = Gate::alpha);
  ChunkCall zeros(alphas, {64}, Inputs::typical, 9);
  for (int i = 0; i < 128; ++i)
    zeros.numbers().a[static_cast<std::size_t>(i)] = i % 7 == 3 ? 0.0 : i % 3 == 0 ? 1.0 : 0.9;
  zeros.round();
  zeros.prepare();
  check(zeros, alphas, {64});
}

TEST_CASE("ragged batches: empty sequences anywhere, and thousands of them") {
  const ChunkSource source =
      GDNJIT_CHUNK_CONFIG(.ragged = true, .heads_k = 1, .heads_v = 1, .head_dim_k = 16, .io_dtype = DType::f16);
  check(source, {0, 0, 70, 0, 64, 1, 0, 63, 128, 0, 9});
  check(source, {65});
  std::vector<int> lengths(40, 1);
  for (std::size_t i = 0; i < lengths.size(); i += 3) lengths[i] = static_cast<int>(i % 4);
  lengths[35] = 130;
  check(source, lengths);

  // Two rounds of the search; the first and the last sequence that holds anything.
  std::vector<int> many(2100, 0);
  many[0] = 3, many[1033] = 66, many[2098] = 5;
  ChunkCall call(source, many, Inputs::typical, 3);
  call.prepare();
  for (const auto& [sequence, chunk] : {std::pair(0, 0), std::pair(1033, 0), std::pair(1033, 1), std::pair(2098, 0)}) {
    CAPTURE(sequence);
    CHECK(rms_ratio(call.record(sequence, chunk, 0).a, call.expected_record(sequence, chunk, 0).a) < 2.7e-4);
  }
}

TEST_CASE("without an output there are no queries") {
  const ChunkSource source = GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .write_output = false);
  ChunkCall call(source, {100}, Inputs::typical, 3);
  call.prepare();
  for (int chunk : {0, 1}) {
    CHECK(rms_ratio(call.record(0, chunk, 1).a, call.expected_record(0, chunk, 1).a) < 2e-3);
    CHECK(rms_ratio(call.record(0, chunk, 1).key, call.expected_record(0, chunk, 1).key) < 1e-5);
  }
  for (const BufferTraffic& traffic : call.device().last_traffic()) {
    if (traffic.name == "q") CHECK(traffic.sectors_read == 0);
  }
}
