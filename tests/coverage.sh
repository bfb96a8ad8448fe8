#!/usr/bin/env bash
# Measures which lines the tests run on both databases, the processes that they start included, and
# fails below the bounds: domain 100 %, application 95 %, the rest 85 %. Takes a build of its own (target/llvm-cov-target).
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
export LOCKSTREAM_SIMULATION_SEEDS=1000
cargo llvm-cov clean --profraw-only
cargo llvm-cov --locked --no-report
LOCKSTREAM_TEST_DATABASE=postgres cargo llvm-cov --locked --no-report --test it
# A process that was killed while it wrote its first counters left half a file, which says nothing.
cargo llvm-cov report --failure-mode all --lcov --output-path "$report"

python3 - "$report" "${1:-}" <<'PYTHON'
import pathlib
import sys

report, detail = sys.argv[1:]
BOUNDS = {"domain": 100, "application": 95, "rest": 85}
source = pathlib.Path("src").resolve()


def first_test_line(path):
    """Unit tests stand at the end of a file, or in one of their own; they are no code to be covered."""
    text = path.read_text()
    at = text.find("#[cfg(test)]\nmod tests {")
    return sys.maxsize if at < 0 else text.count("\n", 0, at) + 1


layers = {name: [0, 0] for name in BOUNDS}
missed = []
for block in open(report).read().split("end_of_record"):
    lines = block.split()
    path = next((pathlib.Path(line[3:]) for line in lines if line.startswith("SF:")), None)
    if path is None or source not in path.parents or path.name == "tests.rs":
        continue
    end = first_test_line(path)
    counts = [line[3:].split(",")[:2] for line in lines if line.startswith("DA:")]
    counts = {int(number): int(count) for number, count in counts if int(number) < end}
    unrun = sorted(number for number, count in counts.items() if count == 0)
    relative = path.relative_to(source)
    layer = relative.parts[0].removesuffix(".rs")
    total = layers[layer if layer in layers else "rest"]
    total[0] += len(counts) - len(unrun)
    total[1] += len(counts)
    if unrun:
        missed.append((relative, unrun))

for path, unrun in sorted(missed, key=lambda entry: -len(entry[1])):
    which = ": " + " ".join(map(str, unrun)) if detail == "--lines" else ""
    print(f"  src/{path}, {len(unrun)} lines not run{which}")
below = []
for name, (covered, count) in layers.items():
    print(f"{name:12} {100 * covered / max(count, 1):6.2f} % of {count} lines (at least {BOUNDS[name]} %)")
    if covered * 100 < count * BOUNDS[name] or count == 0:
        below.append(name)
if below:
    sys.exit(f"too low: {', '.join(below)}")
PYTHON
