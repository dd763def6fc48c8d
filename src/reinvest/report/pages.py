"""Which page is drawn from which kind of result; found by name from the layers below."""

from __future__ import annotations

from .ablation import write_ablation
from .html import write_report
from .outcomes import write_outcomes
from .sequence import write_sequence
from .spikes import write_spikes

catalog = {
    "html": write_report,
    "ablation": write_ablation,
    "outcomes": write_outcomes,
    "sequence": write_sequence,
    "spikes": write_spikes,
}
"""Writers (result, path) -> path; "html" is the page of a comparison."""
