"""Own random streams: every draw is a pure function of (seed, name, epoch, step or example id).

No method touches torch's global generator, so adding one leaves every other draw as it was. Draws are made by a
counter-based generator in integer arithmetic (the finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014), so
integers, uniforms and permutations are equal on every device and do not depend on workers, ranks or batch size.
Normals go through logarithm and cosine, which devices round differently: equal to 2 units in the last place.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from torch import Tensor

from .errors import InvalidValue

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_GAMMA_S, _M1_S, _M2_S = _signed(_GAMMA), _signed(_M1), _signed(_M2)


def _mix_int(z: int) -> int:
    z = (z + _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    return z ^ (z >> 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    # int64 has only the arithmetic shift: the sign bits it brings in must go.
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The same function as `_mix_int`, element by element on int64 [any shape]; products wrap modulo 2^64."""
    z = z + _GAMMA_S
    z = _shift(z, 30).bitwise_xor_(z).mul_(_M1_S)
    z = _shift(z, 27).bitwise_xor_(z).mul_(_M2_S)
    return _shift(z, 31).bitwise_xor_(z)


@lru_cache(maxsize=1024)
def _name_key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def key(seed: int, name: str, *counters: int) -> int:
    """A 64-bit key, in [0, 2^64), for (seed, name, counters...); different arguments give unrelated keys."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidValue(f"a seed is a whole number, got {seed!r}; pass an int")
    z = _mix_int((seed & _MASK) ^ _name_key(name))
    for counter in counters:
        z = _mix_int(z ^ (counter & _MASK))
    return z


def _uniform(bits: Tensor) -> Tensor:
    # 24 bits are exactly representable in float32, so the division loses nothing on any device.
    return _shift(bits, 40).to(torch.float32).mul_(2.0**-24)


def _integers(bits: Tensor, high: int) -> Tensor:
    if not 0 < high <= 1 << 31:
        raise InvalidValue(
            f"integers are drawn from [0, high) with high from 1 to 2^31, got {high}; pass a high in that range"
        )
    return _shift(_shift(bits, 32) * high, 32)


def _normal(first: Tensor, second: Tensor) -> Tensor:
    radius = torch.sqrt(-2.0 * torch.log1p(-_uniform(first)))
    return radius * torch.cos(2.0 * math.pi * _uniform(second))


class Stream:
    """Draws about a batch. Each call moves on, so two calls give different numbers; a new stream starts again."""

    def __init__(self, base: int, device: torch.device | str = "cpu") -> None:
        self._base = base
        self._device = device
        self._calls = 0

    def _bits(self, n: int) -> Tensor:
        if n < 0:
            raise InvalidValue(f"a number of draws is 0 or more, got {n}; pass a count")
        call = _signed(_mix_int(self._base ^ self._calls))
        self._calls += 1
        return _mix(_mix(torch.arange(n, device=self._device)) ^ call)

    def uniform(self, n: int) -> Tensor:
        """Uniforms in [0, 1): float32 [n]."""
        return _uniform(self._bits(n))

    def integers(self, high: int, n: int) -> Tensor:
        """Integers in [0, high): int64 [n]."""
        return _integers(self._bits(n), high)

    def normal(self, n: int) -> Tensor:
        """Standard normals: float32 [n]."""
        return _normal(self._bits(n), self._bits(n))

    def permutation(self, n: int) -> Tensor:
        """A permutation of 0..n-1: int64 [n]."""
        return torch.argsort(_shift(self._bits(n), 1), stable=True)

    def number(self) -> float:
        """One uniform in [0, 1) with 53 random bits, as a Python float (no device is touched)."""
        self._calls += 1
        return float((_mix_int(self._base ^ (self._calls - 1) ^ _GAMMA) >> 11) * 2.0**-53)


def stream(
    seed: int, name: str, epoch: int, step: int = 0, *, node: int = 0, device: torch.device | str = "cpu"
) -> Stream:
    """The stream of (seed, name, epoch, step), and of a virtual node where a batch is split over several."""
    return Stream(key(seed, name, epoch, step, node), device)


def _example_bits(seed: int, name: str, epoch: int, ids: Tensor, k: int) -> Tensor:
    if k < 1:
        raise InvalidValue(f"draws per example are 1 or more, got {k}; pass a positive count")
    if ids.is_floating_point():
        raise InvalidValue(
            f"example ids are whole numbers, got a tensor of {ids.dtype}; pass the ids that the loader yields"
        )
    per_id = _mix(ids.to(torch.int64) ^ _signed(key(seed, name, epoch)))
    columns = _mix(torch.arange(1, k + 1, device=ids.device))
    return _mix(per_id.unsqueeze(1) ^ columns)


def example_uniform(seed: int, name: str, epoch: int, ids: Tensor, k: int = 1) -> Tensor:
    """Uniforms in [0, 1) that belong to examples: float32 [B, k] for ids [B], whatever batch they are in."""
    return _uniform(_example_bits(seed, name, epoch, ids, k))


def example_integers(seed: int, name: str, epoch: int, ids: Tensor, high: int, k: int = 1) -> Tensor:
    """Integers in [0, high) that belong to examples: int64 [B, k] for ids [B]."""
    return _integers(_example_bits(seed, name, epoch, ids, k), high)


def example_normal(seed: int, name: str, epoch: int, ids: Tensor, k: int = 1) -> Tensor:
    """Standard normals that belong to examples: float32 [B, k] for ids [B]."""
    bits = _example_bits(seed, name, epoch, ids, 2 * k)
    return _normal(bits[:, :k], bits[:, k:])
