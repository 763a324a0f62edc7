#include "codegen/nvrtc_library.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/codegen/nvrtc_fixture.h"
#include "tests/codegen/temporary_folder.h"
#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

using Paths = std::vector<std::filesystem::path>;

struct Tree {
  TemporaryFolder folder;
  SearchPaths search = empty_search(folder.path());

  static SearchPaths empty_search(const std::filesystem::path& root) {
    SearchPaths paths;
    paths.root = root;
    paths.loader_path = false;
    return paths;
  }
  // What is found, relative to the tree.
  Paths located() const {
    Paths found;
    for (const auto& path : locate_nvrtc(search)) {
      found.push_back(path.is_absolute() ? path.lexically_relative(folder.path()) : path);
    }
    return found;
  }
};

TEST_CASE_FIXTURE(Tree, "places are tried in this order: toolkits, loader, set-up's folder, Python's packages") {
  folder.write("opt/cuda-x/lib64/libnvrtc.so.12");
  folder.write("usr/local/cuda-9.2/lib64/libnvrtc.so");
  folder.write("usr/local/cuda-13.0/lib64/libnvrtc.so.13");
  folder.write("usr/local/cuda-12.4/lib64/libnvrtc.so.12");
  folder.write("data/nvidia/cu13/lib/libnvrtc.so.13");
  folder.write("venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12");
  folder.write("home/.local/lib/python3.9/site-packages/nvidia/cu13/lib/libnvrtc.so.13");
  folder.write("home/.local/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13");
  folder.write("home/.pyenv/versions/3.11.7/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13");
  folder.write("usr/local/lib/python3.10/dist-packages/nvidia/cu13/lib/libnvrtc.so.13");
  folder.write("usr/lib/python3/dist-packages/nvidia/cu13/lib/libnvrtc.so.13");
  search.loader_path = true;
  search.toolkit_folders = {folder.path() / "opt/cuda-x"};
  search.nvrtc_folders = {folder.path() / "data"};
  search.python_prefixes = {folder.path() / "venv"};
  search.home = folder.path() / "home";
  CHECK(located() == Paths{"opt/cuda-x/lib64/libnvrtc.so.12", "usr/local/cuda-13.0/lib64/libnvrtc.so.13",
                           "usr/local/cuda-12.4/lib64/libnvrtc.so.12", "usr/local/cuda-9.2/lib64/libnvrtc.so",
                           "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "data/nvidia/cu13/lib/libnvrtc.so.13",
                           "venv/lib/python3.11/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
                           "home/.local/lib/python3.12/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
                           "home/.local/lib/python3.9/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
                           "home/.pyenv/versions/3.11.7/lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13",
                           "usr/local/lib/python3.10/dist-packages/nvidia/cu13/lib/libnvrtc.so.13",
                           "usr/lib/python3/dist-packages/nvidia/cu13/lib/libnvrtc.so.13"});
}

TEST_CASE_FIXTURE(Tree, "the place that the user names is the only one tried") {
  folder.write("usr/local/cuda/lib64/libnvrtc.so.13");
  search.library = folder.path() / "mine/libnvrtc.so.12";
  CHECK(located() == Paths{"mine/libnvrtc.so.12"});  // even if it is not there: opening it says so
  folder.write("mine/libnvrtc.so.12");
  search.library = folder.path() / "mine";
  CHECK(located() == Paths{"mine/libnvrtc.so.12"});
}

TEST_CASE_FIXTURE(Tree, "a library is listed once, however many links lead to it, and the newest of a folder wins") {
  folder.write("usr/local/cuda-13.0/lib64/libnvrtc.so.13");
  folder.write("usr/local/cuda-13.0/lib64/libnvrtc.so.12");
  std::filesystem::create_directory_symlink(folder.path() / "usr/local/cuda-13.0", folder.path() / "usr/local/cuda");
  std::filesystem::create_directory_symlink("lib64", folder.path() / "usr/local/cuda-13.0/lib");
  CHECK(located() == Paths{"usr/local/cuda-13.0/lib64/libnvrtc.so.13"});
}

TEST_CASE_FIXTURE(Tree, "nothing is found in an empty tree, and the error says how to get one") {
  CHECK(located().empty());
  const Error error = error_of([&] { NvrtcLibrary::open(search); });
  CHECK(error.code() == ErrorCode::nvrtc_missing);
  CHECK(says(error, "nothing found"));
  CHECK(says(error, "pip install nvidia-cuda-nvrtc"));
  CHECK(says(error, "GDNJIT_NVRTC"));
}

TEST_CASE_FIXTURE(Tree, "files that are no library are skipped, and the error lists them with the reason") {
  const auto bad = folder.write("usr/local/cuda-13.0/lib64/libnvrtc.so.13", "not a library");
  const Error error = error_of([&] { NvrtcLibrary::open(search); });
  CHECK(error.code() == ErrorCode::nvrtc_missing);
  CHECK(says(error, bad.string() + ": "));
  search.library = folder.path() / "absent.so";
  const Error named = error_of([&] { NvrtcLibrary::open(search); });
  CHECK(named.code() == ErrorCode::nvrtc_missing);
  CHECK(says(named, "'" + search.library.string() + "', the place asked for"));
}

TEST_CASE("an opened library knows its file and version") {
  const NvrtcLibrary library = machine_nvrtc();
  CHECK(library.path().is_absolute());
  CHECK(std::filesystem::exists(library.path()));
  CHECK(library.major() >= kOldestNvrtcMajor);
}

TEST_CASE_FIXTURE(Tree, "a library without NVRTC's functions is refused") {
  search.library = "libm.so.6";
  CHECK(says(error_of([&] { NvrtcLibrary::open(search); }), "functions are missing"));
}

}  // namespace
}  // namespace gdnjit
