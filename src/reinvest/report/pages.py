"""Which page is drawn from which kind of result; found by name from the layers below."""

from __future__ import annotations

from .ablation import write_ablation
from .html import write_report
from .sequence import write_sequence

catalog = {"html": write_report, "ablation": write_ablation, "sequence": write_sequence}
"""Writers (result, path) -> path; "html" is the page of a comparison."""
