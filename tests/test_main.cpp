#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

// NVRTC is opened at run time and has thread-local memory of its own. The address sanitizer of GCC 12 finds the bounds
// of such memory in the words before it, where glibc no longer keeps them; what lies there by chance sends the leak
// check at exit through wild addresses ("Tracer caught signal 11"). Without the interceptor it does not look.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "intercept_tls_get_addr=0"; }
