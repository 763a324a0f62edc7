# Third-party libraries, all from the system's packages; tools/lib/setup.sh lists and installs them.
# GDNJIT_PORTABLE takes the static library of each, so that what is built needs only the C library.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)

# gdnjit_find_system(name header library): the interface target gdnjit_<name> of a library without a CMake package.
function(gdnjit_find_system name header library)
  set(target gdnjit_${name})
  string(TOUPPER ${name} prefix)
  find_path(${prefix}_INCLUDE_DIR ${header} REQUIRED)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE ${${prefix}_INCLUDE_DIR})
  if(library)
    set(names ${library})
    if(GDNJIT_PORTABLE)
      set(names lib${library}.a)
    endif()
    find_library(${prefix}_LIBRARY NAMES ${names} REQUIRED)
    target_link_libraries(${target} INTERFACE ${${prefix}_LIBRARY})
  endif()
endfunction()

gdnjit_find_system(sqlite3 sqlite3.h sqlite3)
target_link_libraries(gdnjit_sqlite3 INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)
gdnjit_find_system(libmd sha256.h md)
gdnjit_find_system(xxhash xxhash.h "")  # compiled in from its header
gdnjit_find_system(dlpack dlpack/dlpack.h "")
if(GDNJIT_BENCH)
  gdnjit_find_system(benchmark benchmark/benchmark.h benchmark)
  target_link_libraries(gdnjit_benchmark INTERFACE Threads::Threads)
endif()

if(GDNJIT_PORTABLE)
  add_library(gdnjit_fmt ALIAS fmt::fmt-header-only)  # Debian ships no static libfmt
  # Unused parts of the static libstdc++ would ask for the newest C library (arc4random of glibc 2.36).
  add_link_options(-static-libstdc++ -static-libgcc -Wl,--gc-sections)
else()
  add_library(gdnjit_fmt ALIAS fmt::fmt)
endif()
