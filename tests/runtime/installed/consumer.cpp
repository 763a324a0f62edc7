// Links the installed library, and catches its exception: type information crosses the library's border.
#include <gdnjit/c_api.h>
#include <gdnjit/gdnjit.h>

#include <cstdio>
#include <cstring>

int main() {
  gdnjit::Options options;
  options.set_all("device=emulator:sm_80;cache_dir=none");
  gdnjit::Runtime runtime(options);
  if (!runtime.is_emulator() || runtime.device_name() != "emulator of sm_80") return 1;
  try {
    gdnjit::gdn::plan(runtime, gdnjit::gdn::StepProblem{.heads_k = 16, .heads_v = 20});
  } catch (const gdnjit::Error& error) {
    std::printf("%s\n", error.what());
    const bool named = std::strstr(error.what(), "HV=20") != nullptr;
    return error.code() == gdnjit::ErrorCode::invalid_argument && named && *gdnjit_version() != '\0' ? 0 : 1;
  }
  return 1;
}
