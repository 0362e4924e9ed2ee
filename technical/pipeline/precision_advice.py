"""Which precision to use, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.export_check import LEAST_COSINE

FASTER, SLOWER = 0.95, 1.05  # within 5 % a difference in time is none
LARGEST_LOSS = 0.005  # accuracy, as a fraction, that a smaller file may cost


@dataclass(frozen=True)
class Measured:
    """One precision beside float32."""

    size: float
    """Bytes, as a ratio."""
    time: tuple[float, float]
    """Milliseconds on one and two threads, as ratios."""
    least_cosine: float | None
    """The lower of the mean cosines to float32 over the views; None where nothing was verified."""
    loss: float | None
    """The largest loss of accuracy (or rise of EER) over the views, as a fraction."""

    @classmethod
    def of(cls, model: Mapping[str, Any], full: Mapping[str, Any]) -> Measured:
        """From two entries of the JSON of `pipeline.quantise`."""
        own, base = model.get("validation", {}), full.get("validation", {})
        times = [model["milliseconds"][threads] / full["milliseconds"][threads] for threads in ("1", "2")]
        losses = [_loss(own[view], base[view]) for view in own]
        return cls(
            size=model["bytes"] / full["bytes"],
            time=(times[0], times[1]),
            least_cosine=min((own[view]["cosine_mean"] for view in own), default=None),
            loss=max(losses, default=None),
        )

    def faithful(self, precision: str) -> bool:
        """Whether the embeddings are near enough to float32's, and the accuracy holds; False where it is not known."""
        if self.least_cosine is None or self.loss is None:
            return False
        return self.least_cosine > LEAST_COSINE[precision] and self.loss <= LARGEST_LOSS  # type: ignore[index]


def _loss(own: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    if own["accuracy"] is not None and base["accuracy"] is not None:
        return float(base["accuracy"] - own["accuracy"])
    return float(own["eer"] - base["eer"])


def advice(models: Mapping[str, Measured]) -> list[str]:
    """Sentences: what is faster, what is smaller, what is slower or not faithful."""
    others = {name: one for name, one in models.items() if name != "float32"}
    if any(one.least_cosine is None or one.loss is None for one in others.values()):
        return ["Which precision to use is not said: nothing was verified. Give --val-root faces of several people."]
    usable = {name: one for name, one in others.items() if one.faithful(name)}
    fast = [name for name, one in usable.items() if one.time[0] < FASTER]
    lines = []
    if fast:
        best = min(fast, key=lambda name: usable[name].time[0])
        lines.append(f"Fastest on this CPU: {best}, {usable[best].time[0]:.2f} x the time of float32 on one thread.")
    else:
        lines.append("Fastest on this CPU: float32. No other precision that is faithful takes less than 0.95 x.")
    if usable:
        best = min(usable, key=lambda name: usable[name].size)
        lines.append(f"Smallest that is faithful: {best}, {usable[best].size:.2f} x the size of float32.")
    for name, one in others.items():
        if one.time[0] > SLOWER:
            lines.append(f"{name} is slower than float32 here: {one.time[0]:.2f} x on one thread.")
        if name not in usable:
            lines.append(
                f"{name} is not faithful: mean cosine to float32 {one.least_cosine or 0:.4f} (expected above "
                f"{LEAST_COSINE[name]}), "  # type: ignore[index]
                f"largest loss of accuracy {100 * (one.loss or 0):.2f} %."
            )
    return lines
