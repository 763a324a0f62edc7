// The options of commands that use a device or a cache: the environment's settings, laid over by the command line.
#pragma once

#include <gdnjit/options.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/runtime_impl.h"
#include "tools/gdn-tune/arguments.h"

namespace gdnjit::tool {

struct RuntimeArguments {
  std::string device;
  std::string arch;  // emulate this architecture
  std::string cache_directory;
  std::vector<std::string> layers;
  std::string policy;
  std::string nvrtc;
  std::string templates;
  std::string miss_file;
  int threads = 0;
  bool captures = false;  // GDNJIT_CAPTURE is for calls of the user's: only verify's own are captured as well

  // Each declares a part of the options, for commands that need no more.
  void declare_device(Arguments& arguments);
  void declare_cache(Arguments& arguments);
  void declare_compiler(Arguments& arguments);

  // Throws invalid_argument for a value that Options refuses, and for --arch with a GPU.
  Options options() const;
};

// One runtime for each architecture of an --arch list ("all": every one that is known), or that of `options` if the
// list is empty. The emulator stands for devices that are not here; all share one cache file.
std::vector<std::unique_ptr<Runtime::Impl>> open_runtimes(const Options& options,
                                                          const std::vector<std::string>& archs);

}  // namespace gdnjit::tool
