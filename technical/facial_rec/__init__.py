"""EdgeFace: the recogniser, its weights, and verification maths."""

import common  # noqa: F401  before anything imports onnxruntime
