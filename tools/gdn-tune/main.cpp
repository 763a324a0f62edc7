#include "runtime/support/heap.h"
#include "tools/gdn-tune/command_line.h"

int main(int argc, char** argv) {
  gdnjit::keep_heap();
  return gdnjit::tool::run_tool(argc, argv);
}
