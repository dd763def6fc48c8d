"""At how many seeds an arm has been judged before, kept beside the runs of the store.

Judging again with more seeds until something shows finds differences where there are none. A small file a pair,
<store>/judged/<hash of baseline, arm, durations, pairing and curve>.json, remembers every judgement, so that the next one
can say so (`looks.undeclared`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .describe import describe
from .looks import Judgement
from .onerun import SEPARATE
from .study import Study


def _file(study: Study, arm: str, store: Any) -> Path:
    what: list[Any] = [describe(study.baseline), describe(study.arms[arm]), list(study.durations), study.pairs]
    if study.curve != SEPARATE:
        what.append(study.curve)
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    return Path(store.path) / "judged" / f"{name}.json"


def judgements(study: Study, store: Any) -> dict[str, list[Judgement]]:
    """Earlier judgements of each arm of a study (a damaged file counts as none)."""
    found = {}
    for arm in study.arms:
        try:
            rows = json.loads(_file(study, arm, store).read_text(encoding="utf8"))
            found[arm] = [Judgement(int(r["seeds"]), tuple(r["looks"]), str(r["spending"])) for r in rows]
        except (OSError, ValueError, KeyError, TypeError):
            found[arm] = []
    return found


def remember(study: Study, seeds: int, store: Any) -> None:
    """Keep that the arms of a study have been judged at `seeds` whole replicates."""
    now = Judgement(seeds, tuple(study.looks or ()), study.spending)
    # On a store that cannot be written there are no new runs either, and what is there can be judged all the same.
    with contextlib.suppress(OSError):
        for arm, before in judgements(study, store).items():
            if now in before:
                continue
            target = _file(study, arm, store)
            target.parent.mkdir(parents=True, exist_ok=True)
            rows = [{"seeds": j.seeds, "looks": list(j.looks), "spending": j.spending} for j in (*before, now)]
            temporary = target.with_name(f".{target.name}.{os.getpid()}")
            temporary.write_text(json.dumps(rows) + "\n", encoding="utf8")
            temporary.replace(target)
