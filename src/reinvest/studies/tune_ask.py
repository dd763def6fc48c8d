"""Which values are tried next: Optuna's samplers, asked and told; nothing of Optuna runs, times or stores a trial."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import InvalidValue, unknown
from .tune_space import Choices, Range, Space

SAMPLERS = ("qmc", "tpe")
"""Scrambled Sobol points, which do not heed what was found, and the tree-structured Parzen estimator, which does."""


def need_optuna() -> Any:
    """Optuna, imported when it is first needed. Raises InvalidValue where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise InvalidValue(
            "tuning needs Optuna for its proposals, got an environment without it; install it with: "
            "pip install 'reinvest[tune]'"
        ) from None
    return optuna


class Asker:
    """One tuning study of one arm: `ask` for values, `tell` how good they were, in turn.

    The same seed and the same answers give the same proposals, so that a study whose answers are in a store is continued
    by asking again from the start. sampler: of `SAMPLERS`; seed: in [0, 2^32). Raises UnknownName, and InvalidValue
    without Optuna.
    """

    def __init__(self, space: Space, sampler: str, seed: int) -> None:
        if sampler not in SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        optuna = need_optuna()
        self._space = dict(space)
        self._axes = {path: _distribution(optuna, axis) for path, axis in space.items()}
        with _silent(optuna):
            if sampler == "qmc":
                made: Any = optuna.samplers.QMCSampler(
                    scramble=True, seed=seed, warn_asynchronous_seeding=False, warn_independent_sampling=False
                )
            else:
                made = optuna.samplers.TPESampler(seed=seed)
            self._study = optuna.create_study(sampler=made, direction="maximize")
            if sampler == "qmc":
                # The sequence begins with the second trial of a study, and takes its axes from the first: one that
                # nobody makes, so that every trial that is made is a point of the sequence.
                self._study.add_trial(_placeholder(optuna, self._axes))
        self._asked: Any = None

    def ask(self) -> dict[str, Any]:
        """The next values, {path: value} in the order of the space."""
        self._asked = self._study.ask(self._axes)
        given = self._asked.params
        return {path: _value(axis, given[path]) for path, axis in self._space.items()}

    def tell(self, score: float) -> None:
        """How good the values of the last `ask` were: higher is better, -inf for a trial that diverged."""
        self._study.tell(self._asked, score)


def _distribution(optuna: Any, axis: Range | Choices) -> Any:
    made = optuna.distributions
    if isinstance(axis, Choices):
        return made.CategoricalDistribution(list(range(len(axis.values))))
    if axis.whole:
        return made.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return made.FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def _value(axis: Range | Choices, given: Any) -> Any:
    return axis.values[given] if isinstance(axis, Choices) else given


def _placeholder(optuna: Any, axes: dict[str, Any]) -> Any:
    first = {path: 0 if hasattr(axis, "choices") else axis.low for path, axis in axes.items()}
    return optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, params=first, distributions=axes)


@contextmanager
def _silent(optuna: Any) -> Iterator[None]:
    """Optuna announces every study and calls its quasi-random sampler experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
