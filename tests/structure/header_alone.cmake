# Every header compiles alone. A header that is the first #include of the .cpp beside it is proven by that file;
# each of the others gets a translation unit of one line.
file(GLOB_RECURSE headers RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/autotune/*.h ${PROJECT_SOURCE_DIR}/cache/*.h ${PROJECT_SOURCE_DIR}/codegen/*.h
     ${PROJECT_SOURCE_DIR}/runtime/*.h ${PROJECT_SOURCE_DIR}/tests/*.h ${PROJECT_SOURCE_DIR}/tools/*.h)
set(units "")
foreach(header IN LISTS headers)
  string(REGEX REPLACE "\\.h$" ".cpp" source "${header}")
  set(first "")
  if(EXISTS ${PROJECT_SOURCE_DIR}/${source})
    file(STRINGS ${PROJECT_SOURCE_DIR}/${source} first REGEX "^#include" LIMIT_COUNT 1)
  endif()
  if(NOT first STREQUAL "#include \"${header}\"")
    string(REPLACE "/" "_" unit "${header}")
    set(unit ${CMAKE_CURRENT_BINARY_DIR}/header_alone/${unit}.cpp)
    file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"${header}\"\n")
    list(APPEND units ${unit})
  endif()
endforeach()
add_library(header_alone OBJECT ${units})
target_link_libraries(header_alone PRIVATE gdnjit_codegen gdnjit_sqlite3 gdnjit_dlpack doctest::doctest CLI11::CLI11
                      nlohmann_json::nlohmann_json)
target_compile_options(header_alone PRIVATE -O0 -g0)
