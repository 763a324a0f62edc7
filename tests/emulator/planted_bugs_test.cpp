// One planted bug of every class: found, and located. Most are a correct kernel with one change. The page that explains
// the reports to kernel authors, docs/from_report_to_line.md, quotes these; its quotations are checked here.
#include <fstream>
#include <regex>

#include "tests/emulator/correct_kernels.h"

namespace gdnjit::tests {
namespace {

struct Bug {
  std::string name;  // a heading of the page
  std::string source;
  Trial trial;
  std::vector<std::string> parts;  // of the report
  std::string line;                // text of the source line where the report says it happens; "": in a wrapper
  std::string other_line;          // of the other access, for races
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
  return text;
}

std::string simple(const std::string& body) {
  return "extern \"C\" __global__ void test(const int* in, int* out) {\n  int i = threadIdx.x;\n" + body + "}\n";
}

std::vector<Bug> order_bugs() {
  return {
      {"A missing __syncthreads()",
       replaced(kTurnRound, "  tile[i] += 1;\n  __syncthreads();", "  tile[i] += 1;"),
       {},
       {"race: writes offset 128 of 'tile'", "thread (32,0,0): race", "thread (31,0,0) reads", "add __syncthreads()"},
       "tile[i] += 1;",
       "value = tile[63 - i]"},
      {"A missing __syncwarp()",
       replaced(kWarpExchange, "    __syncwarp();\n    value", "    value"),
       {},
       {"race: reads", "of 'slot'", "the other access is at", "both are lanes of one warp", "add __syncwarp()"},
       "value += own[(lane + 1) % 32]",
       "own[lane] = value"},
      {"A write after a read",
       replaced(kTurnRound, "  int value = tile[63 - i];\n  __syncthreads();", "  int value = tile[63 - i];"),
       {},
       {"race: reads offset", "thread (32,0,0): race", "of 'tile'", "thread (31,0,0) writes", "add __syncthreads()"},
       "value = tile[63 - i]",
       "tile[i] = value"},
      {"A shuffle used as a fence",
       replaced(kWarpExchange, "    __syncwarp();\n    value", "    __shfl_sync(~0u, value, 0);\n    value"),
       {},
       {"race: reads", "of 'slot'", "a shuffle or a vote orders no memory"},
       "value += own[(lane + 1) % 32]",
       "own[lane] = value"},
  };
}

std::vector<Bug> async_bugs() {
  return {
      {"A missing wait for cp.async",
       replaced(kDoubleBuffering, "    cp_async_wait<1>();\n", ""),
       {.arch = "sm_80"},
       {"reads shared memory that nobody has written", "of 'stage'", "a cp.async into it is pending"},
       "sum += stage[tile % 2]",
       ""},
      {"A wait for cp.async without a barrier",
       replaced(kDoubleBuffering, "    cp_async_wait<1>();\n    __syncthreads();", "    cp_async_wait<1>();"),
       {.arch = "sm_80"},
       {"reads shared memory that nobody has written", "of 'stage'", "no barrier makes this one wait for it"},
       "sum += stage[tile % 2]",
       ""},
      {"A copy into a buffer that is still read",
       replaced(kDoubleBuffering, "    __syncthreads();\n  }", "  }"),
       {.arch = "sm_80"},
       {"race: writes asynchronously", "of 'stage'", "reads", "synchronise before it is issued"},
       "",
       "sum += stage[tile % 2]"},
      {"A missing wait for an mbarrier",
       replaced(kProducerConsumer, "      mbarrier_wait(shared_address(&full[s]), round & 1);\n", ""),
       {.threads = 96},
       {"reads shared memory that nobody has written", "of 'stage'"},
       "sum += stage[s]",
       ""},
      {"A stage given back before it was read",
       replaced(replaced(kProducerConsumer,
                         "      __syncwarp();\n      if (lane == 0) mbarrier_arrive(shared_address(&empty[s]));\n", ""),
                "      for (int k",
                "      if (lane == 0) mbarrier_arrive(shared_address(&empty[s]));\n      for (int k"),
       {.threads = 96},
       {"race: writes asynchronously", "of 'stage'", "reads", "synchronise before it is issued"},
       "",
       "sum += stage[s]"},
      {"A missing wait for wgmma",
       replaced(replaced(kWgmmaTiles, "    wgmma_wait<0>(d);\n", ""), "  for (int k = 0; k < 4; ++k) out",
                "  wgmma_wait<0>(d);\n  for (int k = 0; k < 4; ++k) out"),
       {.threads = 128},
       {"race: writes", "reads asynchronously", "wgmma.wait_group"},
       "a[k] = 0x3f80",
       ""},
      {"A missing fence of the async proxy",
       replaced(kBulkStore, "    fence_async_shared();\n", ""),
       {},
       {"race: reads asynchronously", "of 'tile'", "fence.proxy.async is missing"},
       "",
       "tile[i] = in[i] + step"},
      {"A tile written again before its store has read it",
       replaced(kBulkStore, "      bulk_wait_read<0>();\n", ""),
       {},
       {"race: writes", "of 'tile'", "reads asynchronously", "cp.async.bulk.wait_group.read"},
       "tile[i] = in[i] + step",
       ""},
  };
}

std::vector<Bug> block_bugs() {
  return {
      {"Two blocks that write one element",
       simple("  out[blockIdx.x * 48 + i] = in[i];\n"),
       {.blocks = 4},
       {"race: writes offset 192 of 'result'", "block (1,0,0), thread (0,0,0)", "block (0,0,0), thread (48,0,0)",
        "nothing orders the two blocks"},
       "out[blockIdx.x * 48 + i]",
       "out[blockIdx.x * 48 + i]"},
      {"A flag without a fence",
       replaced(kSplitSemaphore, "  if (i == 0) {\n    __threadfence();\n    *turn", "  if (i == 0) {\n    *turn"),
       {.blocks = 8},
       {"race: ", "of 'result'", "nothing orders the two blocks", "__threadfence()"},
       "out[64 + i] += in[i]",
       "out[64 + i] += in[i]"},
  };
}

std::vector<Bug> memory_bugs() {
  return {
      {"One byte past a buffer",
       simple("  out[i] = ((const char*)in)[16384 - 63 + i];\n"),
       {},
       {"reads out of bounds: 1 bytes", "0 bytes past the end of 'numbers' (16384 bytes", "thread (63,0,0)"},
       "((const char*)in)[16384 - 63 + i]",
       ""},
      {"One byte past shared memory",
       simple("  __shared__ char box[63];\n  box[i] = in[i];\n  __syncthreads();\n  out[i] = box[62 - i % 8];\n"),
       {},
       {"writes 1 bytes of shared memory", "0 bytes past the end of 'box' (63 bytes)", "thread (63,0,0)"},
       "box[i] = in[i]",
       ""},
      {"From one shared array into the next",
       simple("  __shared__ int left[64], right[64];\n  left[i] = right[i] = in[i];\n  __syncthreads();\n"
              "  left[i + 1] = 7;\n  __syncthreads();\n  out[i] = left[i] + right[63 - i];\n"),
       {},
       {"writes 4 bytes of shared memory", "0 bytes past the end of 'left' (256 bytes)", "thread (63,0,0)"},
       "left[i + 1] = 7",
       ""},
      {"A read of memory that nobody has written",
       simple(
           "  __shared__ int box[64];\n  if (i < 40) box[i] = in[i];\n  __syncthreads();\n  out[i] = box[63 - i];\n"),
       {},
       {"reads shared memory that nobody has written: offset 252 of 'box'", "thread (0,0,0)"},
       "out[i] = box[63 - i]",
       ""},
      {"A misaligned vector access",
       simple("  int4 v = *(const int4*)(in + i);\n  out[i] = v.x + v.y + v.z + v.w;\n"),
       {},
       {"reads 16 bytes at", "an address that 16 does not divide", "thread (1,0,0)"},
       "*(const int4*)(in + i)",
       ""},
  };
}

std::vector<Bug> synchronisation_bugs() {
  return {
      {"A divergent barrier",
       simple("  if (i % 2 == 0) asm volatile(\"bar.sync 0;\");  // half of each warp\n  out[i] = 1;\n"),
       {},
       {"divergent barrier: lanes 0x55555555 of the warp are here, lanes 0xaaaaaaaa are not"},
       "half of each warp",
       ""},
      {"A mask that names absent lanes",
       simple("  if (i % 32 < 16) out[i] = __shfl_sync(0xffffffffu, in[i], 3);\n"),
       {},
       {"names lanes 0xffff0000 in its mask 0xffffffff, but they are elsewhere"},
       "__shfl_sync(0xffffffffu",
       ""},
      {"A deadlock",
       replaced(kProducerConsumer, "mbarrier_init(shared_address(&empty[s]), 2);",
                "mbarrier_init(shared_address(&empty[s]), 3);"),
       {.threads = 96},
       {"deadlock", "warp 0 waits for phase 0 of the mbarrier at", "'empty'", "(2 of 3 arrivals"},
       "",
       ""},
      {"An exit before a barrier",
       simple("  if (i >= 32) return;\n  __syncthreads();\n  out[i] = 1;\n"),
       {},
       {"deadlock: 1 of 2 warps have exited, before a barrier where others wait", "32 of 64 threads are there"},
       "__syncthreads();",
       ""},
  };
}

std::vector<Bug> all_bugs() {
  std::vector<Bug> bugs;
  for (const auto& group : {order_bugs(), async_bugs(), block_bugs(), memory_bugs(), synchronisation_bugs()})
    bugs.insert(bugs.end(), group.begin(), group.end());
  return bugs;
}

// The number behind "(<file>:" of a source place in a report's line.
void check_place(const std::string& line, const std::string& file, int expected) {
  CAPTURE(line);
  std::smatch match;
  REQUIRE(std::regex_search(line, match, std::regex(R"(PTX line (\d+): .*\((.*):(\d+)\))")));
  CHECK(contains(match[2].str(), file));
  if (expected != 0) CHECK(std::stoi(match[3].str()) == expected);
}

TEST_CASE("each planted bug is found and located") {
  for (const Bug& bug : all_bugs()) {
    CAPTURE(bug.name);
    const std::string text = report_of(bug.source, bug.trial);
    check_report(text, bug.parts);
    const std::size_t last = text.rfind("\n  at ");
    REQUIRE(last != std::string::npos);
    const std::string at = text.substr(last + 1);
    check_place(at, bug.line.empty() ? "" : "test", bug.line.empty() ? 0 : line_of(bug.source, bug.line));
    if (bug.other_line.empty()) continue;
    const std::size_t other = text.find("\n  the other access is at ");
    REQUIRE(other != std::string::npos);
    check_place(text.substr(other + 1, text.find('\n', other + 1) - other - 1), "test",
                line_of(bug.source, bug.other_line));
  }
}

// Numbers that differ from run to run and from NVRTC to NVRTC.
std::string without_numbers(const std::string& text) {
  std::string result = std::regex_replace(text, std::regex("0x[0-9a-f]{6,}"), "0x#");
  result = std::regex_replace(result, std::regex("PTX line [0-9]+: [^\n]*"), "PTX line #");
  return std::regex_replace(result, std::regex("(offset|thread|lane) ?\\(?[0-9,]+\\)?"), "$1 #");
}

TEST_CASE("the page for kernel authors quotes each report as it is") {
  std::ifstream file("docs/from_report_to_line.md");  // tests run in the root of the sources
  const std::string page((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (const Bug& bug : all_bugs()) {
    CAPTURE(bug.name);
    const std::size_t begin = page.find("\n### " + bug.name + "\n");
    REQUIRE(begin != std::string::npos);
    const std::string section = page.substr(begin, page.find("\n### ", begin + 1) - begin);
    // The report stands in the section, indented by four columns.
    std::string quoted;
    std::istringstream lines(section);
    for (std::string line; std::getline(lines, line);) {
      if (line.rfind("    emulator: ", 0) == 0 || (!quoted.empty() && line.rfind("      ", 0) == 0))
        quoted += (quoted.empty() ? "" : "\n") + line.substr(4);
      else if (!quoted.empty())
        break;
    }
    CHECK(without_numbers(quoted) == without_numbers(report_of(bug.source, bug.trial)));
  }
}

}  // namespace
}  // namespace gdnjit::tests
