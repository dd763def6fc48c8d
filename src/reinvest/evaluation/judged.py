"""At how many seeds an arm has been judged before and by which timing blocks, kept beside the runs of the store.

Judging again with more seeds, or with the seconds measured anew, until something shows finds differences where there are
none. A small file a pair, <store>/judged/<hash of baseline, arm, durations, pairing and curve>.json, remembers every
judgement, so that the next one can say so (`looks.undeclared`, `other_blocks`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.files import write_whole
from ..core.recipe import Recipe
from ..loop.session import sources_of
from .describe import describe
from .looks import Judgement, undeclared
from .onerun import SEPARATE
from .study import Study
from .study_checks import LEVEL


def _file(study: Study, arm: str, store: Any) -> Path:
    what: list[Any] = [describe(study.baseline), describe(study.arms[arm]), list(study.durations), study.pairs]
    if study.curve != SEPARATE:
        what.append(study.curve)
    # Runs of before an edit are other runs; only where there are such files, so that what was kept before is found.
    own = [sources_of(recipe) for recipe in (study.baseline, study.arms[arm]) if isinstance(recipe, Recipe)]
    what += [own] if any(own) else []
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    return Path(store.path) / "judged" / f"{name}.json"


def _rows(study: Study, arm: str, store: Any) -> list[tuple[Judgement, dict[str, str]]]:
    """Earlier judgements of an arm, each with its verdict by timing block (a damaged file counts as none)."""
    try:
        rows = json.loads(_file(study, arm, store).read_text(encoding="utf8"))
        return [
            (Judgement(int(r["seeds"]), tuple(r["looks"]), str(r["spending"])), dict(r.get("said") or {})) for r in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def judgements(study: Study, store: Any) -> dict[str, list[Judgement]]:
    """Earlier judgements of each arm of a study."""
    return {arm: [judgement for judgement, _ in _rows(study, arm, store)] for arm in study.arms}


def earlier(study: Study, seeds: int, block: str, store: Any) -> dict[str, list[str]]:
    """By arm, what to say of all earlier judgements when it is now judged at `seeds` whole replicates."""
    now, before = Judgement(seeds, tuple(study.looks or ()), study.spending), judgements(study, store)
    clocks = other_blocks(study, seeds, block, store)
    return {arm: [*undeclared(now, seen, LEVEL), *clocks[arm]] for arm, seen in before.items()}


def other_blocks(study: Study, seeds: int, block: str, store: Any) -> dict[str, list[str]]:
    """By arm, what to say of verdicts on the same runs with other timing blocks than `block` (when that was measured)."""
    flags: dict[str, list[str]] = {}
    for arm in study.arms:
        said = {when: word for j, words in _rows(study, arm, store) if j.seeds == seeds for when, word in words.items()}
        words = [word for when, word in sorted(said.items()) if when != block]
        flags[arm] = [_measured_before(words)] if words else []
    return flags


def _measured_before(words: list[str]) -> str:
    times = "once" if len(words) == 1 else f"{len(words)} times"
    return (
        f"judged {times} before on these runs, with seconds measured another time ({', '.join(words)}): measuring again "
        "until a verdict suits finds differences where there are none, so all of them are to be reported"
    )


def remember(study: Study, seeds: int, store: Any, block: str = "", verdicts: Mapping[str, str] | None = None) -> None:
    """Keep that the arms of a study have been judged at `seeds` whole replicates: verdicts, {arm: word}, by the timing block
    that was measured at `block` ("": none that lasts, whose verdicts are not counted)."""
    now = Judgement(seeds, tuple(study.looks or ()), study.spending)
    # On a store that cannot be written there are no new runs either, and what is there can be judged all the same.
    with contextlib.suppress(OSError):
        for arm in study.arms:
            rows = _rows(study, arm, store)
            before = dict(rows)
            said = {**before.get(now, {}), **({block: verdicts[arm]} if verdicts and block else {})}
            if before.get(now) == said:
                continue
            _write([*((j, words) for j, words in rows if j != now), (now, said)], _file(study, arm, store))


def _write(rows: list[tuple[Judgement, dict[str, str]]], target: Path) -> None:
    plain = [{"seeds": j.seeds, "looks": list(j.looks), "spending": j.spending, "said": said} for j, said in rows]
    write_whole(target, json.dumps(plain) + "\n")
