"""Gaps: how it is written that a cell holds no value. One list for what reads numbers and what compares contents."""

from __future__ import annotations

GAPS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "#N/A", "-nan", "inf", "-inf")
"""Cells of any column that hold no value."""

NUMBER_GAPS = (
    *(gap for gap in GAPS if gap not in ("inf", "-inf")),
    *("-", "--", "\N{EN DASH}", "\N{EM DASH}", ".", "na", "<NA>", "NaT", "none", "-NaN", "1.#QNAN", "#N/A N/A"),
    *("#NA", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "#NULL!"),
)
"""Cells between numbers that hold none: those, and what spreadsheets and statistics programs write."""
