"""Sudden rises of a training signal; the detector itself is in `core.spikes`, where a method that watches finds it too."""

from __future__ import annotations

from ..core.spikes import Spike, find_spikes, group_steps, robust_z, spike_steps, spike_z

__all__ = ["Spike", "find_spikes", "group_steps", "robust_z", "spike_steps", "spike_z"]
