"""Means of weights: checkpoints of one run, and runs that started from one ancestor (soups).

Weights that were trained from unlike beginnings lie in unlike places, and their mean is no solution: `average_runs`
refuses them. The running statistics of batch norm belong to the weights that made them; after averaging take them
again with `recompute_norms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..core.batch import find_ids, unpack
from ..core.errors import InvalidValue
from ..core.protocols import find_run
from ..methods.surgery._statistics import has_statistics, refresh_statistics
from ..methods.weights.lawa import mean_tensors
from ..store.run import Run


def average_checkpoints(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of k states of one model, by name: floating entries in float64, then in their own type.

    Entries of whole numbers (counts) are those of the last state. The mean of k equal states is that state, bit for
    bit. Raises InvalidValue for no state at all, and for states with other names or shapes, naming them.
    """
    if isinstance(states, Mapping) or not states:
        got = "a single state" if isinstance(states, Mapping) else "none"
        raise InvalidValue(f"a mean is taken of a list of states, got {got}; pass [state, ...]")
    first, last = states[0], states[-1]
    for k, state in enumerate(states[1:], start=1):
        unlike = sorted(
            n for n in {*first, *state} if n not in first or n not in state or first[n].shape != state[n].shape
        )
        if unlike:
            more = f" and {len(unlike) - 5} more" if len(unlike) > 5 else ""
            raise InvalidValue(
                f"states of one model have the same names and shapes, got state {k} unlike state 0 in "
                f"{', '.join(unlike[:5])}{more}; average checkpoints of one model"
            )
    floating = [n for n, t in first.items() if t.is_floating_point()]
    device = {n: first[n].device for n in floating}
    means = mean_tensors([[s[n].to(device[n]) for n in floating] for s in states])
    done = {n: m.to(first[n].dtype) for n, m in zip(floating, means, strict=True)}
    return {n: done[n] if n in done else last[n].detach().clone() for n in first}


def average_runs(runs: Sequence[Any]) -> dict[str, Tensor]:
    """The mean of the weights of runs that come from one ancestor (a soup); each is a Run or an id of a lending store.

    An ancestor is a run whose weights the others started from, directly or in several steps: a parent through a warm
    start, or a parent that an own loop declared without saying how it was used. Runs that learned from a teacher do not
    descend from it. Give the mean to a model with `load_state_dict`, then call `recompute_norms`.
    Raises InvalidValue for runs without a common ancestor and for unlike states, StoreError for runs without weights.
    """
    found = [find_run(run, "average_runs") for run in runs]
    if found:
        lines = [ancestors(run) for run in found]
        if not set(lines[0]).intersection(*lines[1:]):
            raise InvalidValue(
                "a mean of runs needs a run that all of them started from, got "
                f"{', '.join(repr(run.id) for run in found)} without a common ancestor; warm start them from one run, "
                "or average checkpoints of one run (average_checkpoints)"
            )
    return average_checkpoints([run.weights() for run in found])


def ancestors(run: Run) -> list[str]:
    """Ids of the runs whose weights this one descends from, itself first; a parent that is gone ends its line."""
    known: list[str] = []
    waiting = [run]
    while waiting:
        at = waiting.pop(0)
        if at.id in known:
            continue
        known.append(at.id)
        for parent in _weight_parents(at):
            try:
                waiting.append(Run(at.path.with_name(parent)))
            except FileNotFoundError:
                known.append(parent)
    return list(dict.fromkeys(known))


def _weight_parents(run: Run) -> list[str]:
    how: dict[str, set[str]] = {}
    for link in run.reuse:
        how.setdefault(link["run"], set()).add(link["how"])
    return [p for p in run.parents if p not in how or "warm start" in how[p]]


def recompute_norms(model: nn.Module, loader: Iterable[Any]) -> int:
    """Take the running statistics of every batch norm again from a loader's batches; returns how many it read.

    They become the means over the batches of their means and variances under the model's present weights. Everything
    else runs in eval mode; weights, modes and random generators stay as they were. Use the training data as an
    evaluation sees them. A model without batch norm reads nothing. Raises InvalidValue for an empty loader.
    """
    if not has_statistics(model):
        return 0
    indexed = find_ids(loader)[0]
    count = refresh_statistics(model, (unpack(item, indexed) for item in loader))
    if not count:
        raise InvalidValue(
            f"statistics are taken from at least one batch, got an empty {type(loader).__name__}; pass data"
        )
    return count
