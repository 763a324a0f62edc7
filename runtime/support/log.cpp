#include "runtime/support/log.h"

#include <cstdio>
#include <mutex>
#include <set>
#include <utility>

namespace gdnjit {
namespace {

struct Warnings {
  std::mutex mutex;
  std::set<std::string, std::less<>> seen;
  WarningSink sink;
};

// Never destroyed: warnings may come from other static destructors.
Warnings& warnings() {
  static auto* instance = new Warnings;
  return *instance;
}

}  // namespace

void set_warning_sink(WarningSink sink) {
  std::lock_guard lock(warnings().mutex);
  warnings().sink = std::move(sink);
}

void warn(std::string_view message) {
  WarningSink sink;
  {
    std::lock_guard lock(warnings().mutex);
    sink = warnings().sink;
  }
  if (sink) {
    sink(message);
  } else {
    std::fprintf(stderr, "gdnjit: %.*s\n", static_cast<int>(message.size()), message.data());
  }
}

void warn_once(std::string_view topic, std::string_view message) {
  {
    std::lock_guard lock(warnings().mutex);
    if (!warnings().seen.emplace(topic).second) return;
  }
  warn(message);
}

}  // namespace gdnjit
