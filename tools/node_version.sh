#!/usr/bin/env bash
# Whether Node is there and new enough for the page's packages: 20.19, or 22.12 or later.
command -v node >/dev/null && node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)'
