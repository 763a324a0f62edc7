# How the project's targets are built: warnings and sanitizers for everything below the top folder (and for nobody
# who merely links the library), and the functions that make rooms and tests.
add_compile_options(-Wall -Wextra -Wshadow "$<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>"
                    "$<$<BOOL:${GDNJIT_WERROR}>:-Werror>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\.")
  # GCC 12 sees overlapping copies in std::string's own code when it inlines much (GCC bug 105651).
  add_compile_options($<$<CONFIG:Release>:-Wno-restrict>)
endif()
if(GDNJIT_SANITIZE)
  # Instrumentation makes GCC 12 see uninitialised members inside <regex> and <functional>.
  add_compile_options(-fsanitize=${GDNJIT_SANITIZE} -fno-omit-frame-pointer -g -Wno-maybe-uninitialized)
  add_link_options(-fsanitize=${GDNJIT_SANITIZE})
  if(GDNJIT_SANITIZE MATCHES undefined)
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

if(GDNJIT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # coverage, which steers the fuzzer
endif()

# Every room sees the project root ("room/file.h") and the public headers (<gdnjit/file.h>).
add_library(gdnjit_flags INTERFACE)
target_include_directories(gdnjit_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/runtime/include)

# gdnjit_room(NAME name SOURCES ... LINKS ...): one static library.
function(gdnjit_room)
  cmake_parse_arguments(ROOM "" "NAME" "SOURCES;LINKS" ${ARGN})
  add_library(${ROOM_NAME} STATIC ${ROOM_SOURCES})
  target_link_libraries(${ROOM_NAME} PUBLIC gdnjit_flags ${ROOM_LINKS})
endfunction()

# gdnjit_test(NAME name SOURCES ... LINKS ... [LABELS ...] [TIMEOUT seconds] [SWEEP]): a doctest executable, run by
# CTest. Its folder's name is a label, so `ctest -L cache` runs tests/cache. A test that prints "SKIPPED: reason" counts
# as skipped. SWEEP: the cases of its test suite "sweep" are a test of their own, <name>_sweep, with the label sweep.
function(gdnjit_test)
  cmake_parse_arguments(TEST "SWEEP" "NAME;TIMEOUT" "SOURCES;LINKS;LABELS" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 300)
  endif()
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  add_executable(${TEST_NAME} ${TEST_SOURCES})
  target_link_libraries(${TEST_NAME} PRIVATE gdnjit_test_main ${TEST_LINKS})
  set(tests ${TEST_NAME})
  if(TEST_SWEEP)
    add_test(NAME ${TEST_NAME} COMMAND ${TEST_NAME} --test-suite-exclude=sweep)
    add_test(NAME ${TEST_NAME}_sweep COMMAND ${TEST_NAME} --test-suite=sweep)
    list(APPEND tests ${TEST_NAME}_sweep)
  else()
    add_test(NAME ${TEST_NAME} COMMAND ${TEST_NAME})
  endif()
  set_tests_properties(${tests} PROPERTIES LABELS "${folder};${TEST_LABELS}" TIMEOUT ${TEST_TIMEOUT}
                       SKIP_REGULAR_EXPRESSION "SKIPPED: ")
  if(TEST_SWEEP)
    set_tests_properties(${TEST_NAME}_sweep PROPERTIES LABELS "${folder};${TEST_LABELS};sweep" TIMEOUT 900)
  endif()
  if(GDNJIT_SANITIZE MATCHES thread)
    set_tests_properties(${tests} PROPERTIES
                         ENVIRONMENT "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/cmake/tsan.supp")
  endif()
endfunction()
