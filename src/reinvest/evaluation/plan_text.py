"""What a plan says, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .outcome import ratio_text


def hours_text(hours: float | None) -> str:
    """Hours as "8.1 s", "12 min", "3.4 h", "52 h"; a dash where not known."""
    if hours is None:
        return "-"
    for scale, unit in ((1.0, "h"), (60.0, "min")):
        if hours * scale >= 1.0:
            return f"{hours * scale:,.0f} {unit}" if hours * scale >= 99.5 else f"{hours * scale:.2g} {unit}"
    return f"{hours * 3600:.2g} s"


def money_text(money: float | None) -> str:
    """Money as "0.42 EUR", "130 EUR"; a dash where not known."""
    return "-" if money is None else f"{money:,.2f} EUR" if money < 100 else f"{money:,.0f} EUR"


def statements(result: Mapping[str, Any]) -> list[str]:
    """What the plan says: what the planned seeds find, what other effects need, what looks change."""
    planned = result["planned"]
    lacking = [f"{planned['runs']:,} runs are lacking"]
    lacking += [] if planned["hours"] is None else [f"{hours_text(planned['hours'])} of training"]
    lacking += [] if planned["money"] is None else [money_text(planned["money"])]
    if result["noise"] is None:
        return [result["reason"], f"with {planned['seeds']} seeds {', '.join(lacking)}"]
    said = [f"{_found(planned)}; {', '.join(lacking)}"]
    said += [_needed(row, planned["seeds"]) for row in result["effects"]]
    for row in (result["looks"] or {"effects": []})["effects"]:
        said.append(
            f"a speed-up of {ratio_text(row['effect'])} is found in {100 * row['found']:.0f} % of studies with these looks, "
            f"which end after {row['mean_seeds']:.1f} seeds on average"
        )
    return said


def _found(planned: Mapping[str, Any]) -> str:
    if planned["smallest_effect"] is None:
        return f"with {planned['seeds']} seeds no speed-up can be shown, because quality hardly depends on time here"
    upper = "any size" if planned["high"] is None else ratio_text(planned["high"])
    return (
        f"with {planned['seeds']} seeds the study finds a speed-up of {ratio_text(planned['smallest_effect'])} four times in "
        f"five ({ratio_text(planned['low'])} to {upper}, as far as the noise is known)"
    )


def _needed(row: Mapping[str, Any], planned: int) -> str:
    effect = ratio_text(row["effect"])
    if row["seeds"] is None:
        return f"a speed-up of {effect} cannot be shown with 10,000 seeds"
    upper = "more than 10,000" if row["seeds_high"] is None else f"{row['seeds_high']:,}"
    text = f"a speed-up of {effect} needs {row['seeds']:,} seeds ({row['seeds_low']:,} to {upper})"
    if row["seeds"] <= planned or row["hours"] is None:
        return text
    money = "" if row["money"] is None else f", {money_text(row['money'])}"
    return f"{text}: {row['runs']:,} runs more than there are, {hours_text(row['hours'])} of training{money}"
