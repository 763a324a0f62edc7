# libgdnjit.so and its installation (component `library`).
set(objects gdnjit_support gdnjit_tensor_map gdnjit_codegen gdnjit_cache gdnjit_emulator gdnjit_cuda gdnjit_runtime)
list(TRANSFORM objects REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>")
set(exports ${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
add_library(gdnjit_shared SHARED ${objects})
target_link_libraries(gdnjit_shared PRIVATE gdnjit_fmt gdnjit_sqlite3 gdnjit_libmd Threads::Threads ${CMAKE_DL_LIBS})
target_link_options(gdnjit_shared PRIVATE -Wl,--version-script=${exports})
target_include_directories(gdnjit_shared PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
                           $<INSTALL_INTERFACE:include>)
target_include_directories(gdnjit_shared SYSTEM PUBLIC $<BUILD_INTERFACE:${DLPACK_INCLUDE_DIR}>)
target_compile_features(gdnjit_shared PUBLIC cxx_std_20)
set_target_properties(gdnjit_shared PROPERTIES OUTPUT_NAME gdnjit EXPORT_NAME gdnjit VERSION ${PROJECT_VERSION}
                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} LINKER_LANGUAGE CXX
                      LINK_DEPENDS ${exports})

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/gdnjit)
install(TARGETS gdnjit_shared EXPORT gdnjit_targets LIBRARY COMPONENT library NAMELINK_COMPONENT library)
install(DIRECTORY include/gdnjit TYPE INCLUDE COMPONENT library)
install(EXPORT gdnjit_targets NAMESPACE gdnjit:: DESTINATION ${package} COMPONENT library)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/gdnjitConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES gdnjitConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/gdnjitConfigVersion.cmake DESTINATION ${package}
        COMPONENT library)
