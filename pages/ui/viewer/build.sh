#!/bin/sh
# Build dist/viewer.js from src/ with the locked packages. The same lock gives the same bytes, in any
# folder: `build.sh --check` fails if the committed file is not what src/ gives.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
if [ "${1:-}" = "--check" ]; then
  built=$(mktemp -d)
  trap 'rm -rf "$built"' EXIT
  npm run --silent build -- --outfile="$built/viewer.js"
  cmp "$built/viewer.js" dist/viewer.js
  echo "dist/viewer.js is what src/ gives."
else
  npm run --silent build
fi
