#!/usr/bin/env bash
# LFW at every resolution, and a report: verification (LR-HR and LR-LR), identification, pictures. Run as: make lfw
#
#   SHARED=<folder>     where data/lfw/{lfw_112.zip,pairs.txt} and weights/ lie (../shared)
#   EDGEFACE=<weights>  one or several, separated by blanks (SHARED's edgeface_xxs_q.pt, the original, and beside it
#                       checkpoints/edgeface_xxs_dsr.pth)
#   DSR=<checkpoint>    (checkpoints/dsr.pt, else runs/dsr/dsr.pt; none: HR and bicubic only)
#   SIZES="8 12 ..."    IDENTIFY="16"    THREADS=0    OUT=runs/lfw
#
# Everything computed is kept in .cache/: stopped, it goes on where it was; run again, it takes a minute or two.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SHARED=${SHARED:-../shared}
OUT=${OUT:-runs/lfw}
SIZES=${SIZES:-8 12 16 20 24 28 32}
IDENTIFY=${IDENTIFY:-16}
THREADS=${THREADS:-0}
say() { printf '[lfw] %s\n' "$*"; }
first_file() { for file in "$@"; do [ -f "$file" ] && printf '%s' "$file" && return; done; true; }

images=$SHARED/data/lfw/lfw_112.zip pairs=$SHARED/data/lfw/pairs.txt
for file in "$images" "$pairs"; do
  [ -f "$file" ] || { say "error: $file is missing. SHARED=<folder> names the folder that holds data/lfw." >&2; exit 2; }
done

if [ -n "${EDGEFACE:-}" ]; then
  read -ra recognisers <<<"$EDGEFACE"
else
  recognisers=("$SHARED/weights/edgeface_xxs_q.pt")
  [ ! -f checkpoints/edgeface_xxs_dsr.pth ] || recognisers+=(checkpoints/edgeface_xxs_dsr.pth)
fi
DSR=${DSR:-$(first_file checkpoints/dsr.pt runs/dsr/dsr.pt)}
DSR=${DSR:-none}
if [ "$DSR" = none ]; then
  say "There is no DSR (checkpoints/dsr.pt): HR and bicubic only. Train one with \`python -m dsr.train_dsr\`."
fi
options=(--threads "$THREADS" --dsr "$DSR")
for weights in "${recognisers[@]}"; do options+=(--edgeface "$weights"); done
say "recognisers: ${recognisers[*]}; DSR: $DSR"

# shellcheck disable=SC2086  # sizes are a list
.venv/bin/python -m pipeline.evaluate_resolutions --images "$images" --pairs "$pairs" --vlr-size $SIZES \
  --title "LFW across resolutions" --json "$OUT/verification.json" "${options[@]}"
# shellcheck disable=SC2086
.venv/bin/python -m pipeline.evaluate_identification --images "$images" --vlr-size $IDENTIFY \
  --json "$OUT/identification.json" "${options[@]}"
.venv/bin/python -m pipeline.report --json "$OUT/verification.json" --json "$OUT/identification.json" \
  --out "$OUT/report.html"
say "open $OUT/report.html. It holds pictures of people: keep it out of git and to yourself."
