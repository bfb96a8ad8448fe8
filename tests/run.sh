#!/usr/bin/env bash
# The one command that makes all tests pass on a fresh Debian-like machine with Rust and a C
# compiler: installs what the tests need and is missing, then runs everything, the release binary
# included. Ends with 0 only when all of it passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n=== %s (%s s)\n' "$1" "$SECONDS"; }
have() { command -v "$1" >/dev/null; }

install_missing() {
    local missing=()
    have python3 || missing+=(python3)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    have jq || missing+=(jq)
    have curl || missing+=(curl)
    have chromium || have chromium-browser || have google-chrome || missing+=(chromium)
    # The tests start their own server and need only its programs; Debian keeps them out of PATH.
    have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    # Makes single calls into the C library fail while the binary runs.
    have fiu-run || missing+=(fiu-utils)
    ((${#missing[@]} > 0)) || return 0
    local as_root=()
    if ((EUID != 0)); then as_root=(sudo); fi
    if ! have apt-get || { ((EUID != 0)) && ! have sudo; }; then
        echo "please install, then run this again: ${missing[*]}" >&2
        return 1
    fi
    "${as_root[@]}" apt-get update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}

step "what the tests need"
have cargo || { echo "please install Rust first: https://rustup.rs" >&2; exit 1; }
have cc || { echo "please install a C compiler first (Debian: apt-get install build-essential)" >&2; exit 1; }
install_missing

step "formatting"
cargo fmt --check

step "lints"
cargo clippy --locked --all-targets -- -D warnings

# A golden file that differs is a failure here, never a new golden file.
export INSTA_UPDATE=no

step "tests, on SQLite"
cargo test --locked

step "integration tests, on PostgreSQL"
# What knows nothing of a database has run already.
LOCKSTREAM_TEST_DATABASE=postgres LOCKSTREAM_SIMULATION_SEEDS=1000 cargo test --locked --test it

step "the OpenAPI document, against the specification"
tools="${CARGO_TARGET_DIR:-target}/python"
[[ -x $tools/bin/openapi-spec-validator ]] || {
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check openapi-spec-validator==0.9.0
}
"$tools/bin/openapi-spec-validator" docs/openapi.json

step "release build"
cargo build --release --locked

step "the release binary, tried as the README says"
bash tests/smoke.sh "${CARGO_TARGET_DIR:-target}/release/lockstream"

printf '\n=== all passed in %s s\n' "$SECONDS"
