"""Quality-against-time curves, compared: points in, verdict and interval out."""

from __future__ import annotations

from .drawing import Cell, MeanCurve, mean_curve
from .judge import verdict
from .outcome import Verdict, Window
from .points import read_csv
from .power import seeds_needed, smallest_effect
from .prediction import Prediction, predict

__all__ = [
    "Cell",
    "MeanCurve",
    "Prediction",
    "Verdict",
    "Window",
    "mean_curve",
    "predict",
    "read_csv",
    "seeds_needed",
    "smallest_effect",
    "verdict",
]
