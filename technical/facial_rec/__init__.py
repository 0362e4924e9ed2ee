"""EdgeFace: the recogniser, its weights, and verification maths."""
