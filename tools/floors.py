#!/usr/bin/env python3
"""Prints the table of floors of docs/performance.md: what a layer of experts must move at the least, over the bandwidth.

    tools/floors.py [--tool GDN_TUNE] [--device NAME] [--tp N] [--weights FORMAT,..|all]

Bytes are those of `gdn-tune explain --op moe.forward`: weights and scales of the experts that M tokens choose together
if they choose evenly, each read once, and what the three launches read and write besides.
"""
import argparse
import json
import pathlib
import subprocess
import sys

TOKENS = [1, 4, 16, 64]
COPY_BYTES_PER_US = 4.3e6  # an H200's, both directions counted


def problems(options):
    command = [options.tool, "explain", "--all-models", "--op", "moe.forward", "--tp", options.tp, "--weights",
               options.weights, "--batch", ",".join(map(str, TOKENS)), "--device", options.device, "--counters-mb", "0",
               "--json", "--quiet"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {ran.returncode}")
    return json.loads(ran.stdout)["problems"]


def row_of(explained):
    """The model and its format of weights: "qwen3.5-35b", "int4:128"."""
    problem = explained["problem"]
    group = f":{problem['group_size']}" if problem["weights"] in ("int4", "int8") else ""
    return ", ".join(origin.split(" tp=")[0] for origin in explained["origins"]), problem["weights"] + group


def three_digits(value):
    """At least three significant digits and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def main():
    parser = argparse.ArgumentParser(description="Prints what layers of experts must move, and how long that takes.")
    parser.add_argument("--tool", default="build/release/tools/gdn-tune/gdn-tune", help="the built gdn-tune")
    parser.add_argument("--device", default="emulator", help="as for gdn-tune (default: emulator)")
    parser.add_argument("--tp", default="1", help="tensor-parallel split (default: 1)")
    parser.add_argument("--weights", default="all", help="as for gdn-tune (default: all of each model)")
    options = parser.parse_args()
    if not pathlib.Path(options.tool).exists():
        sys.exit(f"{options.tool}: not there; build it, or name one with --tool")
    rows = {}
    for explained in problems(options):
        least = explained["least"]
        rows.setdefault(row_of(explained), []).append(least["bytes_read"] + least["bytes_written"])
    counts = " / ".join(map(str, TOKENS))
    print(f"| model | weights | MB moved, M = {counts} | floor, us, M = {counts} |\n|---|---|---|---|")
    for (model, weights), moved in rows.items():
        megabytes = " / ".join(three_digits(value / 1e6) for value in moved)
        floors = " / ".join(three_digits(value / COPY_BYTES_PER_US) for value in moved)
        print(f"| {model} | {weights} | {megabytes} | {floors} |")


if __name__ == "__main__":
    main()
