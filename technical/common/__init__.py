"""Plumbing shared by every package: errors, command lines, files, images, run logs. Knows nothing about faces."""

import os

# onnxruntime reports to its makers from the moment it is imported, and keeps a number for this machine in the home
# folder, unless this is set before. facial_rec and pipeline, which use it, import this package first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
