"""What the tests of advice ask of it: rows of planted evidence, the ways it offers, the reasons it gives."""

from __future__ import annotations

from typing import Any

from advised import study
from reinvest.store import Store
from reinvest.studies.advise import Advice
from reinvest.studies.evidence import Evidence, evidence_of

NO_STUDY: list[Evidence] = []


def run_of(store: Store, seed: int) -> str:
    """Id of the only run with a seed."""
    (run,) = store.runs(where=f"seed={seed}")
    return run.id


def rows(*arms: dict[str, Any], **more: Any) -> list[Evidence]:
    """Evidence of one planted study."""
    return evidence_of("planted.json", study({f"arm {k}": one for k, one in enumerate(arms)}, **more))


def ways(advice: Advice) -> list[str]:
    """What is offered, in order."""
    return [option.how for option in advice.options]


def reasons(advice: Advice, run: str, how: str = "") -> list[str]:
    """Why a run was refused, altogether or for one way."""
    return [r.reason for r in advice.refused if r.run == run and r.how == how]


def described(**more: Any) -> Any:
    """A change of what a run says of its data."""
    return lambda values: values["training"]["data"].update(more)
