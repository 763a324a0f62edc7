# find_package(gdnjit) gives gdnjit::gdnjit, the shared library with its C and C++ headers.
# gdnjit/c_api.h includes <dlpack/dlpack.h>: a program that uses it brings that header (libdlpack-dev).
include("${CMAKE_CURRENT_LIST_DIR}/gdnjit_targets.cmake")
