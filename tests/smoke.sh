#!/usr/bin/env bash
# Tries a built binary as a newcomer would: starts it in an empty folder, runs the commands of the
# README's first five minutes and compares the answers with the README's, opens /docs in a browser,
# stops it and verifies the log.
#
#   tests/smoke.sh [BINARY]    target/release/lockstream by default
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binary=$(realpath "${1:-$root/target/release/lockstream}")
work=$(mktemp -d)
server=

clean_up() {
    if [[ -n $server ]]; then kill -KILL "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap clean_up EXIT

fail() {
    echo "smoke: $1" >&2
    tail -n 20 "$work/server.log" >&2 || true
    exit 1
}

# Nothing of the caller's settings: the defaults are tried, on a port of the system's choice.
lockstream() { cd "$work" && exec env -i PATH="$PATH" LOCKSTREAM_ADDR="${addr:-127.0.0.1:0}" LOCKSTREAM_LOG_FORMAT=json "$binary" "$@"; }

# The README's fenced blocks of one language, from its first five minutes.
blocks() {
    awk -v wanted="$1" '
        /^## / { here = ($0 == "## The first five minutes") }
        here && /^```/ { language = (language == "" ? substr($0, 4) : ""); next }
        here && language == wanted' "$root/README.md"
}

# Only the moment of recording differs from one run to the next.
without_times() { sed -E 's/"recorded_at":"[^"]*"/"recorded_at":"…"/'; }

find_browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name"; then return; fi
    done
    fail "no browser to look at /docs with"
}

(lockstream) 2>"$work/server.log" &
server=$!
for _ in {1..600}; do
    addr=$(jq -rR 'fromjson? | select(.message == "serving") | .addr' "$work/server.log")
    [[ -z $addr ]] || break
    kill -0 "$server" 2>/dev/null || fail "the server ended instead of serving"
    sleep 0.1
done
[[ -n $addr ]] || fail "the server did not start within a minute"
(lockstream health) || fail "the server is not ready"

blocks sh | sed "s/localhost:8000/$addr/g" >"$work/story.sh"
blocks text | without_times >"$work/expected"
[[ -s $work/story.sh && -s $work/expected ]] || fail "the README has no first five minutes"
bash -euo pipefail "$work/story.sh" | without_times >"$work/answers"
diff -u "$work/expected" "$work/answers" || fail "the README's answers are not the real ones (-README, +real)"
echo "the README's story: as it stands there"

browser=$(find_browser)
# Root, as in a container, has no sandbox; nothing but this machine is looked at.
timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync \
    --user-data-dir="$work/browser" --virtual-time-budget=10000 --dump-dom \
    "http://$addr/docs/" >"$work/docs.html" 2>"$work/browser.log" || fail "the browser failed: $(tail -n 5 "$work/browser.log")"
summary=$(curl -s "http://$addr/openapi.json" | jq -r '.paths["/events"].post.summary')
[[ -n $summary && $summary != null ]] || fail "POST /events has no summary in /openapi.json"
grep -qF "$summary" "$work/docs.html" || fail "/docs does not show \"$summary\" in a browser"
echo "/docs in a browser: shows \"$summary\""

kill -TERM "$server"
wait "$server" || fail "the server did not stop in order"
server=
(lockstream verify --json) | jq -e '.sound and .head_sequence == 5 and .projected_sequence == 5' >/dev/null \
    || fail "verify is not content with what the server left"
echo "stopped in order; verify: all is well"
