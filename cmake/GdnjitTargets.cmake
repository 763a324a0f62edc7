# Flags shared by every target of the project, and the functions that make rooms and tests.
add_library(gdnjit_flags INTERFACE)
target_compile_options(gdnjit_flags INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
                       $<$<BOOL:${GDNJIT_WERROR}>:-Werror>)
target_include_directories(gdnjit_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/runtime/include)
if(GDNJIT_SANITIZE)
  target_compile_options(gdnjit_flags INTERFACE -fsanitize=${GDNJIT_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(gdnjit_flags INTERFACE -fsanitize=${GDNJIT_SANITIZE})
  if(GDNJIT_SANITIZE MATCHES undefined)
    target_compile_options(gdnjit_flags INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()

# gdnjit_room(NAME name SOURCES ... LINKS ...): one static library.
function(gdnjit_room)
  cmake_parse_arguments(ROOM "" "NAME" "SOURCES;LINKS" ${ARGN})
  add_library(${ROOM_NAME} STATIC ${ROOM_SOURCES})
  target_link_libraries(${ROOM_NAME} PUBLIC gdnjit_flags ${ROOM_LINKS})
endfunction()

# gdnjit_test(NAME name SOURCES ... LINKS ... [LABELS ...] [TIMEOUT seconds]): a doctest executable, run by CTest.
# A test that prints "SKIPPED: reason" counts as skipped.
function(gdnjit_test)
  cmake_parse_arguments(TEST "" "NAME;TIMEOUT" "SOURCES;LINKS;LABELS" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 300)
  endif()
  add_executable(${TEST_NAME} ${TEST_SOURCES})
  target_link_libraries(${TEST_NAME} PRIVATE gdnjit_test_main ${TEST_LINKS})
  add_test(NAME ${TEST_NAME} COMMAND ${TEST_NAME})
  set_tests_properties(${TEST_NAME} PROPERTIES LABELS "${TEST_LABELS}" TIMEOUT ${TEST_TIMEOUT}
                       SKIP_REGULAR_EXPRESSION "SKIPPED: ")
endfunction()
