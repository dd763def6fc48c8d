"""Monotone cubic curves through cell means, their envelopes, and their gradients with respect to the means.

The interpolant is the Fritsch-Carlson PCHIP with weighted harmonic slopes (equal to
scipy.interpolate.PchipInterpolator), written for a stack of curves over the same knots: a gradient by central
differences needs 2 K + 1 curves, and all of them cost one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def pchip_slopes(x: Array, y: Array) -> Array:
    """Slopes of the PCHIP at its knots.

    x: [K] increasing, K >= 2; y: [..., K]. Returns [..., K].
    """
    h = np.diff(x)
    m = np.diff(y, axis=-1) / h
    if len(x) == 2:
        return np.concatenate([m, m], axis=-1)
    left, right = m[..., :-1], m[..., 1:]
    w_left, w_right = 2.0 * h[1:] + h[:-1], h[1:] + 2.0 * h[:-1]
    same = np.sign(left) * np.sign(right) > 0.0
    harmonic = w_left / np.where(same, left, 1.0) + w_right / np.where(same, right, 1.0)
    inner = np.where(same, (w_left + w_right) / np.where(same, harmonic, 1.0), 0.0)
    first = _end_slope(h[0], h[1], m[..., 0], m[..., 1])
    last = _end_slope(h[-1], h[-2], m[..., -1], m[..., -2])
    return np.concatenate([first[..., None], inner, last[..., None]], axis=-1)


def _end_slope(h0: float, h1: float, m0: Array, m1: Array) -> Array:
    """Three-point slope at an end, limited so that the curve keeps the shape of the data."""
    slope = ((2.0 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    steep = (np.sign(m0) != np.sign(m1)) & (np.abs(slope) > 3.0 * np.abs(m0))
    return np.asarray(np.where(np.sign(slope) != np.sign(m0), 0.0, np.where(steep, 3.0 * m0, slope)), dtype=np.float64)


def pchip_coefficients(x: Array, y: Array) -> Array:
    """Cubic coefficients in u = x - x_k, lowest power first.

    x: [K]; y: [..., K]. Returns [..., K - 1, 4].
    """
    h = np.diff(x)
    m = np.diff(y, axis=-1) / h
    d = pchip_slopes(x, y)
    d0, d1 = d[..., :-1], d[..., 1:]
    return np.stack([y[..., :-1], d0, (3.0 * m - 2.0 * d0 - d1) / h, (d0 + d1 - 2.0 * m) / h**2], axis=-1)


@dataclass(frozen=True)
class Curves:
    """Raw and envelope curve of one arm, with gradients.

    x: [K] knots (mean log seconds); raw, envelope: [K - 1, 4] coefficients; raw_gradient, envelope_gradient:
    [K, K - 1, 4], entry k the derivative with respect to the mean of cell k; average_slope: of the envelope
    over the arm's whole range, >= 0.
    """

    x: Array
    raw: Array
    envelope: Array
    raw_gradient: Array
    envelope_gradient: Array
    average_slope: float

    def locate(self, at: Array) -> tuple[npt.NDArray[np.intp], Array]:
        """Interval number and offset inside it, for positions clipped into the range."""
        at = np.clip(at, self.x[0], self.x[-1])
        which = np.clip(np.searchsorted(self.x, at, side="right") - 1, 0, len(self.x) - 2)
        return which, at - self.x[which]

    def value(self, at: Array, kind: str = "raw") -> Array:
        """Values of the "raw" or "envelope" curve at positions `at` (any shape), clipped into the range."""
        which, u = self.locate(at)
        c = self.raw if kind == "raw" else self.envelope
        c = c[which]
        return np.asarray(c[..., 0] + u * (c[..., 1] + u * (c[..., 2] + u * c[..., 3])))

    def slope(self, at: Array, kind: str = "envelope") -> Array:
        """Slopes of the "raw" or "envelope" curve at positions `at`, clipped into the range."""
        which, u = self.locate(at)
        c = self.raw if kind == "raw" else self.envelope
        c = c[which]
        return np.asarray(c[..., 1] + u * (2.0 * c[..., 2] + 3.0 * u * c[..., 3]))

    def gradient(self, at: Array, kind: str = "raw") -> Array:
        """Derivatives with respect to every cell mean at positions `at` [...]: returns [..., K]."""
        which, u = self.locate(at)
        c = self.raw_gradient if kind == "raw" else self.envelope_gradient
        c = np.moveaxis(c, 0, -1)[which]
        u = u[..., None]
        return np.asarray(c[..., 0, :] + u * (c[..., 1, :] + u * (c[..., 2, :] + u * c[..., 3, :])))


def arm_curves(x: Array, y: Array, step: Array) -> Curves:
    """Curves of one arm; x, y, step: [K], step the half-width of the central difference of each cell mean."""
    k = len(x)
    moved = np.diag(step)
    stack = np.concatenate([y[None], y + moved, y - moved])
    both = pchip_coefficients(x, np.stack([stack, np.maximum.accumulate(stack, axis=-1)]))
    gradient = (both[:, 1 : k + 1] - both[:, k + 1 :]) / (2.0 * step[:, None, None])
    best = np.maximum.accumulate(y)
    return Curves(
        x=x,
        raw=both[0, 0],
        envelope=both[1, 0],
        raw_gradient=gradient[0],
        envelope_gradient=gradient[1],
        average_slope=float((best[-1] - best[0]) / (x[-1] - x[0])),
    )
