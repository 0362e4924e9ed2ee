"""Face detectors, as the chain names them; they live in `facial_rec`, where `dsr.prepare_dataset` can use them too."""

from __future__ import annotations

from facial_rec.detector import DETECTORS, DetectedFace, Detector, DetectorName, load_detector

__all__ = ["DETECTORS", "DetectedFace", "Detector", "DetectorName", "load_detector"]
