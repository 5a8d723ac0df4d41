"""How numbers are written on the pages: always with a unit, never with false precision."""

from __future__ import annotations

import math
import re
from datetime import datetime

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(value: float) -> str:
    """Return a whole number with thousands separators."""
    return f"{round(value):,}"


def compact(value: float) -> str:
    """Return a large count in three digits, e.g. ``5.34 M``; below 10,000 it stays whole."""
    if abs(value) < 10_000:
        return count(value)
    for size, unit in _UNITS:
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return count(value)


def size(n_bytes: float) -> str:
    """Return a file's size, e.g. ``4.5 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.3g} {name}"
    return f"{n_bytes:.0f} B"


def percent(part: float, whole: float) -> str:
    """Return ``part / whole`` in percent, a dash where there is no whole."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 1:
        return "<1 %"
    if 99.5 <= share < 100:
        return ">99 %"
    return f"{share:.0f} %"


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them; a dash where unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number in a few significant digits; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}g}"


def moment(value: str | float | None) -> str:
    """Return an ISO text or epoch seconds as local ``YYYY-MM-DD HH:MM``."""
    if value is None or value == "":
        return "–"
    if isinstance(value, str):
        when = datetime.fromisoformat(value)
    else:
        when = datetime.fromtimestamp(value).astimezone()
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


def in_um(sentence: str) -> str:
    """Return a sentence of the core, which writes ASCII, with its micrometres as people do."""
    return re.sub(r"(?<=[\d )])um\b", "µm", sentence)


def plural(n: int, word: str) -> str:
    """Return ``1 cell`` or ``2,000 cells``."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"
