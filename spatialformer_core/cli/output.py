"""What the command line says: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from spatialformer_core.progress import Estimate, Progress

_EVERY_S = 0.2
_EVERY_S_LOGGED = 10.0

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object last on stdout.")]


def say(text: str) -> None:
    """Print a result for people."""
    typer.echo(text)


def note(text: str) -> None:
    """Print a remark on stderr."""
    typer.echo(text, err=True)


def emit_json(value: Any) -> None:
    """Print the result as one line of JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, numbers to the right."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    is_number = [
        bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(header))
    ]
    for line in (list(header), *cells):
        parts = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ]
        say("  ".join(parts).rstrip())


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return "-" if value is None else str(value)


def terminal_progress() -> Progress:
    """Return a callback that shows share, step and time left on stderr.

    On a terminal one line is rewritten; in a log a line appears every ten seconds.
    """
    estimate = Estimate()
    on_terminal = sys.stderr.isatty()
    every_s = _EVERY_S if on_terminal else _EVERY_S_LOGGED
    last_s = float("-inf")

    def report(done: float, total: float, message: str) -> None:
        nonlocal last_s
        now = time.monotonic()
        is_end = done >= total
        if now - last_s < every_s and not is_end:
            return
        last_s = now
        share = done / total if total else 1.0
        left = estimate.remaining_s(done, total)
        text = f"{share:4.0%}  {message}" + (f"  ({duration(left)} left)" if left else "")
        if on_terminal:
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if is_end else ""))
            sys.stderr.flush()
        else:
            note(text)

    return report


def duration(seconds: float) -> str:
    """Write a duration for people.

    Examples
    --------
    >>> duration(42), duration(150), duration(7300)
    ('42 s', '2 min 30 s', '2 h 02 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
