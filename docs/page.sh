#!/usr/bin/env bash
# Makes docs/page.png: the page of a real run, number words with four workers, as it is after
# three quarters of a minute. Needs chromium, node, npm and pngquant.
#
#     docs/page.sh [light|dark] [FILE] [WIDTH]
set -euo pipefail
cd "$(dirname "$0")/.."
scheme=${1:-light} file=$(realpath -m "${2:-docs/page.png}") width=${3:-1280}
secs=${SECS:-45}

cargo build --release
dsgd=$PWD/target/release/dsgd
mkdir -p target/tmp/page
cp crates/dsgd/tests/it/page/browser/{page.mjs,package.json,package-lock.json,.npmrc} target/tmp/page/
(cd target/tmp/page && npm ci --ignore-scripts --prefer-offline >/dev/null)

work=$(mktemp -d)
trap 'kill "$run" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
# A shorter run beforehand, to be listed beside it.
"$dsgd" train -n 4 --epochs 1 --quiet --run-dir runs/number-words-1 >/dev/null
"$dsgd" train -n 4 --run-dir runs/number-words-2 --dashboard 127.0.0.1:0 >log &
run=$!
for _ in $(seq 600); do
  url=$(sed -n 's/^Dashboard: //p' log)
  [ -n "$url" ] && break
  sleep 0.1
done
sleep "$secs"
cd - >/dev/null
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)} \
  node target/tmp/page/page.mjs picture "$url" "$file" "$scheme" 3000 "$width"
pngquant --force --strip --speed 1 --output "$file" 128 "$file"
ls -l "$file"
