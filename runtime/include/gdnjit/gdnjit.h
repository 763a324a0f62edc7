// All of gdnjit's C++ interface.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/error.h>
#include <gdnjit/gdn.h>
#include <gdnjit/gdn_chunk.h>
#include <gdnjit/gdn_forward.h>
#include <gdnjit/gdn_options.h>
#include <gdnjit/moe.h>
#include <gdnjit/moe_align.h>
#include <gdnjit/moe_convert.h>
#include <gdnjit/moe_forward.h>
#include <gdnjit/moe_options.h>
#include <gdnjit/moe_route.h>
#include <gdnjit/options.h>
#include <gdnjit/runtime.h>
#include <gdnjit/tensor.h>
