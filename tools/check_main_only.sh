#!/usr/bin/env bash
# Show that recognising needs no torch: install `--only main` into a folder of its own, and run the commands there.
#
#   bash tools/check_main_only.sh      # after `make setup`, whose .venv exports the tiny models that are run
#
# The files are those of the working tree that git knows; nothing is left behind.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '[main only] %s\n' "$*"; }

if ! [ -x .venv/bin/python ] || ! [ -x .poetry/bin/poetry ]; then
  say "error: .venv or .poetry is missing. Run \`make setup\` first." >&2
  exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
started=$SECONDS
git ls-files -z pyproject.toml poetry.lock poetry.toml README.md checkpoints technical tools | xargs -0 cp --parents -t "$folder"
ln -s "$PWD/.poetry" "$folder/.poetry"
INSTALL_OPTIONS="--only main" bash "$folder/tools/bootstrap.sh" >"$folder/install.log" 2>&1 || {
  cat "$folder/install.log" >&2
  exit 1
}
python=$folder/.venv/bin/python
packages=$(find "$folder/.venv/lib" -name '*.dist-info' | wc -l)
say "installed in $((SECONDS - started)) s: $packages packages, $(du -sm "$folder/.venv" | cut -f 1) MB"

.venv/bin/python tools/tiny_recogniser.py "$folder" >/dev/null
cd "$folder"
for absent in torch torchvision timm kornia; do
  if "$python" -c "import $absent" 2>/dev/null; then
    say "error: $absent is installed" >&2
    exit 1
  fi
done
"$python" -c "
from dsr.synthetic import render_scene
from common.images import write_png
from pathlib import Path
for person, shot in ((0, 0), (0, 1), (3, 0)):
    write_png(Path('photos', f'{person}_{shot}.png'), render_scene(0, person, shot)[0])
"
models=(--edgeface edgeface.onnx --chain chain.onnx --threads 1)
run() {
  say "python -m $*"
  "$python" -m "$@"
}
run pipeline.recognise verify photos/0_0.png photos/0_1.png "${models[@]}"
run pipeline.recognise enrol Ann photos/0_0.png "${models[@]}"
run pipeline.recognise identify photos "${models[@]}"
run pipeline.recognise cluster photos --out people.html "${models[@]}"
run pipeline.recognise watch photos "${models[@]}"
run pipeline.detect photos --out faces --threads 1
say "done in $((SECONDS - started)) s: no torch, and every command ran"
