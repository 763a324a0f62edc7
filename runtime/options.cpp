#include <gdnjit/options.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <optional>

#include "runtime/device_choice.h"
#include "runtime/support/check.h"
#include "runtime/support/log.h"
#include "runtime/support/text.h"

namespace gdnjit {
namespace {

using Path = std::filesystem::path;

constexpr std::array<std::string_view, 4> kPolicyNames{"heuristic", "cached", "tune_on_miss", "strict"};

// A change of the working directory must not move the cache.
Path path_of(std::string_view text) { return std::filesystem::absolute(Path(text)).lexically_normal(); }

std::int64_t whole_number(std::string_view label, std::string_view text, std::int64_t least, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size() && value >= least && value <= most,
          "{}={}: must be a whole number from {} to {}", label, text, least, most);
  return value;
}

// One line per option: `apply` reads `text`; `label` is the name that messages give the option.
struct OptionEntry {
  std::string_view name;
  std::string_view variable;
  void (*apply)(Options& options, std::string_view label, std::string_view text);
};

constexpr std::array<OptionEntry, 13> kOptions{{
    {"device", "GDNJIT_DEVICE",
     [](Options& options, std::string_view label, std::string_view text) {
       parse_device_choice(label, text);
       options.device = text;
     }},
    {"policy", "GDNJIT_POLICY",
     [](Options& options, std::string_view label, std::string_view text) {
       const auto* found = std::find(kPolicyNames.begin(), kPolicyNames.end(), text);
       require(found != kPolicyNames.end(), "{}={}: must be one of {}", label, text, fmt::join(kPolicyNames, ", "));
       options.policy = static_cast<Policy>(found - kPolicyNames.begin());
     }},
    {"cache_dir", "GDNJIT_CACHE_DIR",
     [](Options& options, std::string_view, std::string_view text) {
       options.cache_directory = text.empty() || text == "none" ? Path() : path_of(text);
     }},
    {"cache_layers", "GDNJIT_CACHE_LAYERS",
     [](Options& options, std::string_view, std::string_view text) {
       options.read_only_caches.clear();
       for (const std::string& layer : split(text, ':')) {
         if (!layer.empty()) options.read_only_caches.push_back(path_of(layer));
       }
     }},
    {"cache_limit_mb", "GDNJIT_CACHE_LIMIT_MB",
     [](Options& options, std::string_view label, std::string_view text) {
       options.cache_limit_bytes = whole_number(label, text, 1, std::numeric_limits<std::int64_t>::max() >> 20) << 20;
     }},
    {"nvrtc", "GDNJIT_NVRTC",
     [](Options& options, std::string_view, std::string_view text) {
       // A bare name is the loader's to find.
       options.nvrtc_library = text.find('/') == std::string_view::npos ? Path(text) : path_of(text);
     }},
    {"templates", "GDNJIT_TEMPLATES",
     [](Options& options, std::string_view label, std::string_view text) {
       require(text.empty() || std::filesystem::is_directory(text),
               "{}={}: must be a folder that holds kernel templates (empty: the built-in ones)", label, text);
       options.templates_directory = text.empty() ? Path() : path_of(text);
     }},
    {"miss_file", "GDNJIT_MISS_FILE",
     [](Options& options, std::string_view, std::string_view text) {
       options.miss_file = text.empty() ? Path() : path_of(text);
     }},
    {"compile_threads", "GDNJIT_COMPILE_THREADS",
     [](Options& options, std::string_view label, std::string_view text) {
       options.compile_threads = static_cast<int>(whole_number(label, text, 0, 1024));
     }},
    {"emulator_checks", "GDNJIT_EMULATOR_CHECKS",
     [](Options& options, std::string_view label, std::string_view text) {
       require(text == "races" || text == "memory", "{}={}: must be races (all checks) or memory (all but races)",
               label, text);
       options.emulator_races = text == "races";
     }},
    {"capture", "GDNJIT_CAPTURE",
     [](Options& options, std::string_view, std::string_view text) {
       options.capture_directory = text.empty() ? Path() : path_of(text);
     }},
    {"capture_limit_mb", "GDNJIT_CAPTURE_LIMIT_MB",
     [](Options& options, std::string_view label, std::string_view text) {
       options.capture_limit_bytes = whole_number(label, text, 1, std::numeric_limits<std::int64_t>::max() >> 20) << 20;
     }},
    {"capture_files", "GDNJIT_CAPTURE_FILES",
     [](Options& options, std::string_view label, std::string_view text) {
       options.capture_files = whole_number(label, text, 1, std::numeric_limits<std::int64_t>::max());
     }},
}};

// The variable's value; an empty one counts as unset.
std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

void add_folders(std::initializer_list<const char*> variables, std::vector<Path>& folders) {
  for (const char* name : variables) {
    if (const auto folder = variable(name)) folders.emplace_back(*folder);
  }
}

// gdnjit below the folder that `name` holds, or below `below_home`: the XDG base directory rules, which ignore a
// relative path.
Path user_folder(const char* name, const char* below_home) {
  if (const auto xdg = variable(name); xdg && Path(*xdg).is_absolute()) return Path(*xdg) / "gdnjit";
  if (const auto home = variable("HOME"); home && Path(*home).is_absolute()) return Path(*home) / below_home / "gdnjit";
  return {};
}

Path user_cache_directory() { return user_folder("XDG_CACHE_HOME", ".cache"); }

}  // namespace

Options Options::from_environment() {
  Options options;
  for (const OptionEntry& entry : kOptions) {
    if (const auto text = variable(entry.variable.data())) entry.apply(options, entry.variable, *text);
  }
  if (!variable("GDNJIT_CACHE_DIR")) {
    options.cache_directory = user_cache_directory();
    if (options.cache_directory.empty()) {
      warn_once("no cache directory",
                "neither HOME nor XDG_CACHE_HOME names a folder, so compiled kernels are kept in memory only; "
                "set GDNJIT_CACHE_DIR to keep them (GDNJIT_CACHE_DIR=none silences this)");
    }
  }
  NvrtcSearch& search = options.nvrtc_search;
  add_folders({"CUDA_HOME", "CUDA_PATH"}, search.toolkit_folders);
  add_folders({"VIRTUAL_ENV", "CONDA_PREFIX"}, search.python_prefixes);
  if (const Path data = user_folder("XDG_DATA_HOME", ".local/share"); !data.empty())
    search.nvrtc_folders.push_back(data / "nvrtc");
  if (const auto home = variable("HOME")) search.home = *home;
  return options;
}

void Options::set(std::string_view name, std::string_view value) {
  const auto* entry =
      std::find_if(kOptions.begin(), kOptions.end(), [&](const OptionEntry& e) { return e.name == name; });
  if (entry == kOptions.end()) {
    std::vector<std::string> names;
    for (const OptionEntry& known : kOptions) names.emplace_back(known.name);
    fail(ErrorCode::invalid_argument, "unknown option '{}'{}", name, suggestion(name, names));
  }
  entry->apply(*this, entry->name, value);
}

void Options::set_all(std::string_view text) {
  std::string lines(text);
  std::replace(lines.begin(), lines.end(), '\n', ';');
  for (const std::string& pair : split(lines, ';')) {
    const std::size_t begin = pair.find_first_not_of(" \t\r");
    if (begin == std::string::npos) continue;
    const std::string trimmed = pair.substr(begin, pair.find_last_not_of(" \t\r") + 1 - begin);
    const std::size_t equals = trimmed.find('=');
    require(equals != std::string::npos, "option '{}': must have the form name=value", trimmed);
    set(std::string_view(trimmed).substr(0, equals), std::string_view(trimmed).substr(equals + 1));
  }
}

}  // namespace gdnjit
