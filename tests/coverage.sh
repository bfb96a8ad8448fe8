#!/usr/bin/env bash
# Measures which lines the tests run, the processes that they start included, and fails below the
# bounds: domain 100 %, application 95 %, the rest 85 %. Takes a build of its own (target/llvm-cov-target).
#
#   tests/coverage.sh          the figures
#   tests/coverage.sh --lines  and every line that no test ran
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo llvm-cov --version >/dev/null 2>&1 || cargo install cargo-llvm-cov --locked

# The reader of profiles must be at least as new as the LLVM that rustc brings.
find_llvm() {
    local wanted bin
    wanted=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    bin=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
    if [[ -x $bin/llvm-cov && -x $bin/llvm-profdata ]]; then
        export LLVM_COV=$bin/llvm-cov LLVM_PROFDATA=$bin/llvm-profdata
        return
    fi
    local version
    for version in $(seq $((wanted + 3)) -1 "$wanted"); do
        if command -v "llvm-cov-$version" >/dev/null; then
            LLVM_COV=$(command -v "llvm-cov-$version") LLVM_PROFDATA=$(command -v "llvm-profdata-$version")
            export LLVM_COV LLVM_PROFDATA
            return
        fi
    done
    return 1
}

if ! find_llvm; then
    newest=$(apt-cache search --names-only '^llvm-[0-9]+$' | cut -d' ' -f1 | sort -V | tail -n 1)
    as_root=()
    if ((EUID != 0)); then as_root=(sudo); fi
    "${as_root[@]}" apt-get install -y --no-install-recommends "$newest"
    find_llvm || { echo "$newest cannot read the profiles of this rustc: $(rustc -vV | grep LLVM)" >&2; exit 1; }
fi

report=$(mktemp)
trap 'rm -f "$report"' EXIT
# Counters live in the file itself (%c), because tests kill most of the servers that they start, and
# a killed process writes nothing at its end.
export LLVM_PROFILE_FILE_NAME='lockstream-%p%c.profraw'
export RUSTFLAGS="${RUSTFLAGS:-} -Cllvm-args=-runtime-counter-relocation"
cargo llvm-cov --locked --json --output-path "$report"

python3 - "$report" "${1:-}" <<'PYTHON'
import json
import os
import sys

report, detail = sys.argv[1:]
BOUNDS = {"domain": 100, "application": 95, "rest": 85}
layers = {name: [0, 0] for name in BOUNDS}
source = os.path.join(os.getcwd(), "src") + os.sep
missed = []
for file in json.load(open(report))["data"][0]["files"]:
    if not file["filename"].startswith(source):
        continue
    path = file["filename"][len(source):]
    layer = path.split("/")[0].removesuffix(".rs")
    lines = file["summary"]["lines"]
    total = layers[layer if layer in layers else "rest"]
    total[0] += lines["covered"]
    total[1] += lines["count"]
    if lines["covered"] < lines["count"]:
        missed.append((path, lines["count"] - lines["covered"], file["segments"]))


def unrun(segments):
    """Lines where a region begins that was never run; a segment is [line, column, count, has_count, is_entry, is_gap]."""
    return sorted({s[0] for s in segments if s[3] and s[4] and not s[5] and s[2] == 0})


for path, count, segments in sorted(missed, key=lambda entry: -entry[1]):
    print(f"  src/{path}: {count} lines not run", *([f"at {unrun(segments)}"] if detail == "--lines" else []))
below = []
for name, (covered, count) in layers.items():
    percent = 100 * covered / max(count, 1)
    print(f"{name:12} {percent:6.2f} % of {count} lines (at least {BOUNDS[name]} %)")
    if covered * 100 < count * BOUNDS[name]:
        below.append(name)
if below:
    sys.exit(f"too low: {', '.join(below)}")
PYTHON
