#include <array>

#include "tools/gdn-tune/command.h"

namespace gdnjit::tool {
namespace {

constexpr std::array kTable{
    CommandEntry{"tune", CommandGroup::kernels, "Find the best tiles of problems and store them with their binaries",
                 "gdn-tune tune --model qwen3-next-80b --tp 1,4 --op gdn.step --batch 1,8,64\n"
                 "gdn-tune tune --model olmo-hybrid-7b --set state=f32,bf16 --set state_layout=kv,vk\n"
                 "gdn-tune tune --model qwen3.5-35b-a3b --tp 2 --op moe.up,moe.down --weights int4:128 --batch 1,4\n"
                 "gdn-tune tune --from-misses misses.jsonl\n"
                 "gdn-tune tune --all-models --tp all --batch 1,64 --shard 3/16 --cache-dir shard3",
                 make_tune_command},
    CommandEntry{"compile", CommandGroup::kernels, "Fill the cache with binaries, for any architecture, without a GPU",
                 "gdn-tune compile --model qwen3-next-80b --tp 1,4 --arch sm_80,sm_90a,sm_120\n"
                 "gdn-tune compile --all-models --tp all --arch all --cache-dir image/cache\n"
                 "gdn-tune compile --model qwen3.5-27b --all-tiles",
                 make_compile_command},
    CommandEntry{"verify", CommandGroup::kernels, "Run kernels against the double-precision reference",
                 "gdn-tune verify --model qwen3-next-80b\n"
                 "gdn-tune verify --all-models --tp all --set state=f32,bf16 --set state_layout=kv,vk\n"
                 "gdn-tune verify --problem \"gdn.step H=4 HV=12 K=60 V=100 norm=max_eps\" --all-tiles",
                 make_verify_command},
    CommandEntry{"replay", CommandGroup::kernels, "Run captured calls again and compare their outputs",
                 "gdn-tune replay calls/*.safetensors\n"
                 "gdn-tune replay call.safetensors --device emulator --all-tiles --against reference\n"
                 "gdn-tune replay call.safetensors --device cuda --against emulator:sm_80 --json",
                 make_replay_command},
    CommandEntry{"explain", CommandGroup::kernels,
                 "Show what a problem becomes: signature, key, tiles and why, counters",
                 "gdn-tune explain --model qwen3-next-80b --tp 4 --batch 8\n"
                 "gdn-tune explain --problem \"gdn.step H=16 HV=32 state=bf16\" --source > kernel.cu\n"
                 "gdn-tune explain --model qwen3.5-27b --arch sm_120 --json",
                 make_explain_command},
    CommandEntry{"inspect", CommandGroup::kernels,
                 "Show what kernels cost: registers, occupancy, traffic, and the lines that cause it",
                 "gdn-tune inspect --model qwen3-next-80b --batch 8 --arch sm_80,sm_90a,sm_120\n"
                 "gdn-tune inspect --problem \"H=16 HV=32 state=bf16\" --all-tiles --lines 0\n"
                 "gdn-tune inspect --model qwen3.5-27b --tiles \"BV=32\" --json",
                 make_inspect_command},
    CommandEntry{"list", CommandGroup::cache, "List the binaries and tuning records of a cache",
                 "gdn-tune list\n"
                 "gdn-tune list --tuning --chosen\n"
                 "gdn-tune list --failed --json",
                 make_list_command},
    CommandEntry{"stats", CommandGroup::cache, "Show how full the cache and its layers are", "gdn-tune stats",
                 make_stats_command},
    CommandEntry{"prune", CommandGroup::cache, "Drop binaries that are old, failed, or of another toolchain",
                 "gdn-tune prune --older-than 90 --dry-run\n"
                 "gdn-tune prune --keep-mb 256 --failures\n"
                 "gdn-tune prune --other-toolchains",
                 make_prune_command},
    CommandEntry{"check", CommandGroup::cache, "Look for damage in cache files",
                 "gdn-tune check\n"
                 "gdn-tune check /mnt/site/gdnjit/kernels.db",
                 make_check_command},
    CommandEntry{"diff", CommandGroup::cache, "Compare two cache files", "gdn-tune diff left.db right.db",
                 make_diff_command},
    CommandEntry{"merge", CommandGroup::cache, "Add the rows of cache files to a cache; any order gives the same rows",
                 "gdn-tune merge shard0/kernels.db shard1/kernels.db\n"
                 "gdn-tune merge --into all.db shard*/kernels.db",
                 make_merge_command},
    CommandEntry{"export", CommandGroup::cache, "Write tuning records as text, or a layer fit to be shipped",
                 "gdn-tune export tuning.jsonl\n"
                 "gdn-tune export --as-layer shipped.db",
                 make_export_command},
    CommandEntry{"import", CommandGroup::cache, "Read tuning records written by export", "gdn-tune import tuning.jsonl",
                 make_import_command},
    CommandEntry{"doctor", CommandGroup::machine, "Say what works on this machine and what to do about the rest",
                 "gdn-tune doctor", make_doctor_command},
    CommandEntry{"models", CommandGroup::machine, "Show the models and their problems",
                 "gdn-tune models\n"
                 "gdn-tune models --models mine.json",
                 make_models_command},
    CommandEntry{"worker", CommandGroup::hidden, "Run one candidate for a tuner; started by the tool itself", "",
                 make_worker_command},
};

}  // namespace

std::span<const CommandEntry> command_table() { return kTable; }

}  // namespace gdnjit::tool
