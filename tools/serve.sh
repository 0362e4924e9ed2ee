#!/usr/bin/env bash
# The API and the page, from a trained DSR: export what is missing, build the page, serve both. Run as: make serve
#
#   DSR=<checkpoint>    (checkpoints/dsr.pt, runs/dsr/dsr.pt or runs/main/dsr.pt, whichever is there first)
#   EDGEFACE=<weights>  (edgeface_xxs.pt, in checkpoints/ or downloaded)
#   PORT=8000  LISTEN=127.0.0.1  SERVE_OPTIONS="--detector yunet"
#
# checkpoints/{edgeface,chain,dsr}.onnx are used as they are; with DSR= or EDGEFACE= all three are made again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '[serve] %s\n' "$*"; }
first_file() { for file in "$@"; do [ -f "$file" ] && printf '%s' "$file" && return; done; true; }

# --- Models ----------------------------------------------------------------------------------------------------------
wanted=()
for what in edgeface chain dsr; do
  if [ -n "${DSR:-}${EDGEFACE:-}" ] || ! [ -f "checkpoints/$what.onnx" ]; then wanted+=("$what"); fi
done
if [ ${#wanted[@]} -gt 0 ]; then
  weights=${EDGEFACE:-edgeface_xxs.pt}
  dsr=${DSR:-$(first_file checkpoints/dsr.pt runs/dsr/dsr.pt runs/main/dsr.pt)}
  if [ -z "$dsr" ]; then
    say "error: there is no DSR. Train one (python -m dsr.train_dsr), name one (DSR=<checkpoint>), or try with made-up"
    say "people only: make demo, then make serve DSR=runs/demo/dsr/dsr.pt EDGEFACE=runs/demo/edgeface_demo.pt"
    exit 2
  fi >&2
  for what in "${wanted[@]}"; do
    .venv/bin/python -m pipeline.export --to onnx --what "$what" --edgeface "$weights" --dsr "$dsr" \
      --out "checkpoints/$what.onnx"
  done
fi

# --- The page --------------------------------------------------------------------------------------------------------
page=technical/pipeline/web
built=$page/dist/index.html
models=$page/public/models
if ! command -v npm >/dev/null; then
  say "npm is not installed, so the page is not built: the API alone. (On Debian: apt-get install npm, Node 20 or later)"
else
  if ! [ -f "$models/models.json" ] || [ -n "$(find checkpoints -name '*.onnx' -newer "$models/models.json")" ]; then
    .venv/bin/python -m pipeline.web_models --out "$models"
  fi
  if ! [ -f "$page/node_modules/.package-lock.json" ] || [ "$page/package-lock.json" -nt "$page/node_modules/.package-lock.json" ]; then
    (cd "$page" && npm ci --no-audit --no-fund)
  fi
  if ! [ -f "$built" ] || [ -n "$(find "$page" -name node_modules -prune -o -name dist -prune -o -type f -newer "$built" -print)" ]; then
    (cd "$page" && npm run build)
  fi
fi

# --- The server ------------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086  # several options
exec .venv/bin/python -m pipeline.api --host "${LISTEN:-127.0.0.1}" --port "${PORT:-8000}" ${SERVE_OPTIONS:-}
