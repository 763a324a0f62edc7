#include "tools/gdn-tune/command_line.h"

int main(int argc, char** argv) { return gdnjit::tool::run_tool(argc, argv); }
