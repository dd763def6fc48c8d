"""What a plan says, in sentences."""

from __future__ import annotations

import math
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


def money_text(money: float | None, currency: str) -> str:
    """Money as "0.42 USD", "130 USD", small sums with two digits as "0.0031 USD"; a dash where not known."""
    if money is None:
        return "-"
    shown = float(f"{money:.2g}")
    places = 0 if money >= 100 else 2 if not shown > 0.0 else max(2, 1 - math.floor(math.log10(shown)))
    return f"{money:,.{places}f} {currency}".strip()


def currency_of(result: Mapping[str, Any]) -> str:
    """The currency of a plan's money; plans of before had none beside their euros."""
    return str(result.get("currency", "EUR") or "")


def statements(result: Mapping[str, Any]) -> list[str]:
    """What the plan says: what the planned seeds find, what other effects need, what looks change."""
    planned = result["planned"]
    lacking = [f"{planned['runs']:,} runs are lacking"]
    hours, currency = planned["hours"], currency_of(result)
    lacking.append("hours of training not known yet" if hours is None else f"{hours_text(hours)} of training")
    lacking += [] if planned["money"] is None else [money_text(planned["money"], currency)]
    if result["noise"] is None:
        return [result["reason"], f"with {planned['seeds']} seeds {', '.join(lacking)}"]
    said = [f"{_found(planned)}; {', '.join(lacking)}"]
    said += [_needed(row, planned["seeds"], currency) for row in result["effects"]]
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


def _needed(row: Mapping[str, Any], planned: int, currency: str) -> str:
    effect = ratio_text(row["effect"])
    if row["seeds"] is None:
        return f"a speed-up of {effect} cannot be shown with 10,000 seeds"
    upper = "more than 10,000" if row["seeds_high"] is None else f"{row['seeds_high']:,}"
    text = f"a speed-up of {effect} needs {row['seeds']:,} seeds ({row['seeds_low']:,} to {upper})"
    if row["seeds"] <= planned or row["hours"] is None:
        return text
    money = "" if row["money"] is None else f", {money_text(row['money'], currency)}"
    return f"{text}: {row['runs']:,} runs more than there are, {hours_text(row['hours'])} of training{money}"
