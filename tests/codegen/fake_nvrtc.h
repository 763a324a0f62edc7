// An NVRTC in memory that fails where a test says so. One per process, as the table holds plain functions.
#pragma once

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "codegen/nvrtc_library.h"

namespace gdnjit {

// Set the fields, use table(), look at the fields.
struct FakeNvrtc {
  std::string failing;  // the member of NvrtcTable that returns `error`
  int error = 11;       // NVRTC_ERROR_INTERNAL_ERROR
  int major = 13;
  int minor = 0;
  std::string ptx = ".visible .entry test_small(\n";
  std::string cubin = "cubin";
  std::string log = "";
  int live_programs = 0;
  int calls = 0;
  std::string last_name;
  std::vector<std::string> last_options;
  std::vector<std::string> last_headers;

  static FakeNvrtc& instance() {
    static FakeNvrtc fake;
    return fake;
  }
  static FakeNvrtc& fresh() { return instance() = FakeNvrtc{}; }
  static NvrtcTable table();

  int enter(const char* member) {
    ++calls;
    return failing == member ? error : kNvrtcSuccess;
  }
};

inline NvrtcTable FakeNvrtc::table() {
  NvrtcTable table;
  table.get_error_string = [](int) -> const char* { return "NVRTC_FAKE_ERROR"; };
  table.version = [](int* major, int* minor) {
    *major = instance().major;
    *minor = instance().minor;
    return instance().enter("version");
  };
  table.create_program = [](void** program, const char*, const char* name, int count, const char* const*,
                            const char* const* names) {
    if (const int result = instance().enter("create_program"); result != kNvrtcSuccess) return result;
    ++instance().live_programs;
    instance().last_name = name;
    instance().last_headers.assign(names, names + count);
    *program = &instance();
    return kNvrtcSuccess;
  };
  table.destroy_program = [](void** program) {
    --instance().live_programs;
    *program = nullptr;
    return instance().enter("destroy_program");
  };
  table.compile_program = [](void*, int count, const char* const* options) {
    instance().last_options.assign(options, options + count);
    return instance().enter("compile_program");
  };
  table.get_ptx_size = [](void*, std::size_t* bytes) {
    *bytes = instance().ptx.size() + 1;
    return instance().enter("get_ptx_size");
  };
  table.get_ptx = [](void*, char* text) {
    std::memcpy(text, instance().ptx.c_str(), instance().ptx.size() + 1);
    return instance().enter("get_ptx");
  };
  table.get_cubin_size = [](void*, std::size_t* bytes) {
    *bytes = instance().cubin.size();
    return instance().enter("get_cubin_size");
  };
  table.get_cubin = [](void*, char* bytes) {
    std::memcpy(bytes, instance().cubin.data(), instance().cubin.size());
    return instance().enter("get_cubin");
  };
  table.get_log_size = [](void*, std::size_t* bytes) {
    *bytes = instance().log.size() + 1;
    return instance().enter("get_log_size");
  };
  table.get_log = [](void*, char* text) {
    std::memcpy(text, instance().log.c_str(), instance().log.size() + 1);
    return instance().enter("get_log");
  };
  return table;
}

}  // namespace gdnjit
