#!/usr/bin/env bash
# What the tests of the browser page need (Debian, root): Chromium, and the page's packages from its lock file.
set -euo pipefail
cd "$(dirname "$0")/../technical/pipeline/web"

command -v npm >/dev/null || { echo "npm is missing: install Node.js 20.19 or later"; exit 1; }
bash ../../../tools/node_version.sh || {
  echo "Node.js $(node --version) is too old for the page: install 20.19, or 22.12 or later"
  exit 1
}
if ! command -v chromium >/dev/null; then
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium
fi
npm ci --no-audit --no-fund
