#!/usr/bin/env bash
# The API and the page, from a trained DSR: export what is missing, build the page, serve both. Run as: make serve
#
#   DSR=<checkpoint>    (checkpoints/dsr.pt or runs/dsr/dsr.pt, whichever is there first)
#   EDGEFACE=<weights>  (edgeface_xxs_dsr.pth in checkpoints/, else edgeface_xxs.pt, in checkpoints/ or downloaded)
#   CALIBRATION=<thresholds>  RESULTS=<record of pipeline.evaluate_resolutions>
#   PORT=8000  LISTEN=127.0.0.1  SERVE_OPTIONS="--detector yunet"
#
# checkpoints/{edgeface,chain,dsr}.onnx are used as they are; with DSR= or EDGEFACE= all three are made, in runs/serve.
# Thresholds and results are those inside the models and those in checkpoints/, where they are of these weights.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '[serve] %s\n' "$*"; }
first_file() { for file in "$@"; do [ -f "$file" ] && printf '%s' "$file" && return; done; true; }

# --- Models ----------------------------------------------------------------------------------------------------------
folder=checkpoints
if [ -n "${DSR:-}${EDGEFACE:-}" ]; then folder=runs/serve; fi
mkdir -p runs/serve
wanted=()
for what in edgeface chain dsr; do
  if [ "$folder" = runs/serve ] || ! [ -f "$folder/$what.onnx" ]; then wanted+=("$what"); fi
done
if [ ${#wanted[@]} -gt 0 ]; then
  weights=${EDGEFACE:-$(first_file checkpoints/edgeface_xxs_dsr.pth)}
  weights=${weights:-edgeface_xxs.pt}
  dsr=${DSR:-$(first_file checkpoints/dsr.pt runs/dsr/dsr.pt)}
  if [ -z "$dsr" ]; then
    say "error: there is no DSR. Train one (python -m dsr.train_dsr), name one (DSR=<checkpoint>), or try with made-up"
    say "people only: make demo, then make serve DSR=runs/demo/dsr/dsr.pt EDGEFACE=runs/demo/edgeface_demo.pt"
    exit 2
  fi >&2
  for what in "${wanted[@]}"; do
    .venv/bin/python -m pipeline.export --to onnx --what "$what" --edgeface "$weights" --dsr "$dsr" \
      --out "$folder/$what.onnx"
  done
fi
models=()
for what in edgeface chain dsr; do models+=("--$what" "$folder/$what.onnx"); done
if [ -n "${CALIBRATION:-}" ]; then models+=(--calibration "$CALIBRATION"); fi

# --- The page --------------------------------------------------------------------------------------------------------
page=technical/pipeline/web
built=$page/dist/index.html
public=$page/public/models
wanted_page="${models[*]} ${RESULTS:-}"
made=$(cat runs/serve/page 2>/dev/null || true)
if ! command -v npm >/dev/null || ! bash tools/node_version.sh; then
  say "npm with Node 20.19 or later is not installed, so the page is not built: the API alone. (https://nodejs.org)"
else
  files=(checkpoints "$folder" ${CALIBRATION:+"$CALIBRATION"} ${RESULTS:+"$RESULTS"})
  if ! [ -f "$public/models.json" ] || [ "$made" != "$wanted_page" ] ||
    [ -n "$(find "${files[@]}" -maxdepth 1 '(' -name '*.onnx' -o -name '*.json' ')' -newer "$public/models.json")" ]; then
    .venv/bin/python -m pipeline.web_models --out "$public" "${models[@]}" ${RESULTS:+--results "$RESULTS"}
    printf '%s\n' "$wanted_page" >runs/serve/page
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
exec .venv/bin/python -m pipeline.api --host "${LISTEN:-127.0.0.1}" --port "${PORT:-8000}" "${models[@]}" \
  ${SERVE_OPTIONS:-}
