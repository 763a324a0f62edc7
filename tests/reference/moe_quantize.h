// What the products take of x and h with activations=fp8, as gdnjit/moe_options.h writes it.
#pragma once

#include <span>

namespace gdnjit::reference {

// The nearest number of e4m3, ties to even; beyond 448 it is 448, NaN stays NaN.
double round_e4m3(double value);

// A row of x or h: each 128 neighbours become e4m3 times their scale. The numbers are ones of fp32 before; the scale
// and the quotients are rounded to fp32, as the formula says.
void quantize_row(std::span<double> row);

}  // namespace gdnjit::reference
