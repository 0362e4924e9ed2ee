"""Detectors and the whole recogniser on one photo, for `pipeline.benchmark`. No torch."""

from __future__ import annotations

import cv2
import numpy as np

from common.images import RgbImage
from facial_rec.detector import Detector
from facial_rec.detector_mtcnn import MtcnnDetector
from facial_rec.detector_yunet import YunetDetector
from pipeline.benchmark_contenders import Call, Contender, Setting
from pipeline.recogniser import Recogniser, RecogniserSettings


def opened(contender: Contender, setting: Setting) -> Call:
    """Finding the faces of the photo; of the recogniser also aligning and embedding them."""
    cv2.setNumThreads(setting.threads)
    photo: RgbImage = np.load(setting.files.photo)
    if contender.part == "recogniser":
        edgeface, chain = str(setting.files.model("edgeface")), str(setting.files.model("chain"))
        recogniser = Recogniser(RecogniserSettings(edgeface=edgeface, chain=chain, threads=setting.threads))
        return lambda: recogniser.faces(photo)
    if contender.part == "mtcnn":
        return _detecting(MtcnnDetector(threads=setting.threads), photo)
    return _detecting(YunetDetector(setting.files.yunet), photo)


def _detecting(detector: Detector, photo: RgbImage) -> Call:
    return lambda: detector.detect(photo)
