#!/usr/bin/env bash
# The one command that compares Lockstream with its peers: builds what is needed outside the sources,
# runs all of them side by side on this machine, prints tables in Markdown. See tests/compare/README.md.
#
#   tests/compare.sh            # everything; about ten minutes once it is built
#   tests/compare.sh --quick    # less of everything; about three
#   tests/compare.sh --check    # start everybody, look at a few answers, measure nothing
#   tests/compare.sh --help     # what else there is
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

have() { command -v "$1" >/dev/null; }
have cargo || { echo "please install Rust first: https://rustup.rs" >&2; exit 1; }
have cc || { echo "please install a C compiler first (Debian: apt-get install build-essential)" >&2; exit 1; }
have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || {
    echo "please install Python first (Debian: apt-get install python3-venv)" >&2
    exit 1
}
have perf || echo "without perf (Debian: linux-perf) syncs are not counted" >&2

target="${CARGO_TARGET_DIR:-$root/target}"
mkdir -p "$target/compare"
target="$(cd "$target" && pwd)"
place="$target/compare"
python="$place/python"

# Anew whenever the requirements change.
if ! cmp -s "$root/tests/compare/requirements.txt" "$python/requirements.txt"; then
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check -r "$root/tests/compare/requirements.txt"
    # UmaDB's client crate compiles its protocol with protoc, which comes with a Python package too.
    printf '#!/bin/sh\nexec "%s/bin/python" -m grpc_tools.protoc "$@"\n' "$python" >"$python/bin/protoc"
    chmod +x "$python/bin/protoc"
    cp "$root/tests/compare/requirements.txt" "$python/requirements.txt"
fi

# A binary of the service that exists already: LOCKSTREAM_COMPARE_BINARY=FILE.
binary="${LOCKSTREAM_COMPARE_BINARY:-}"
if [[ -z $binary ]]; then
    cargo build --release --locked --bin lockstream --manifest-path "$root/Cargo.toml" --target-dir "$target"
    binary="$target/release/lockstream"
fi
export PROTOC="${PROTOC:-$python/bin/protoc}"
own=(--release --locked --manifest-path "$root/tests/compare/Cargo.toml" --target-dir "$place")
if [[ " $* " == *" --check "* ]]; then cargo test "${own[@]}" --bin compare; fi
cargo build "${own[@]}"

exec "$place/release/compare" --lockstream "$binary" --python "$python" --sources "$root/tests/compare" \
    --data "$place/data" "$@"
