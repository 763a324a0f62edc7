# Third-party libraries, all from the system's packages. tools/quickstart.sh installs them.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
find_path(DLPACK_INCLUDE_DIR dlpack/dlpack.h REQUIRED)
find_path(SQLITE3_INCLUDE_DIR sqlite3.h REQUIRED)
find_path(LIBMD_INCLUDE_DIR sha256.h REQUIRED)

if(GDNJIT_PORTABLE)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
  # fmt and xxhash are compiled in from their headers.
  add_library(gdnjit_fmt ALIAS fmt::fmt-header-only)
  add_link_options(-static-libstdc++ -static-libgcc)
else()
  add_library(gdnjit_fmt ALIAS fmt::fmt)
endif()
find_library(SQLITE3_LIBRARY sqlite3 REQUIRED)
find_library(LIBMD_LIBRARY md REQUIRED)

add_library(gdnjit_sqlite3 INTERFACE)
target_include_directories(gdnjit_sqlite3 SYSTEM INTERFACE ${SQLITE3_INCLUDE_DIR})
target_link_libraries(gdnjit_sqlite3 INTERFACE ${SQLITE3_LIBRARY} Threads::Threads ${CMAKE_DL_LIBS} m)

add_library(gdnjit_libmd INTERFACE)
target_include_directories(gdnjit_libmd SYSTEM INTERFACE ${LIBMD_INCLUDE_DIR})
target_link_libraries(gdnjit_libmd INTERFACE ${LIBMD_LIBRARY})
