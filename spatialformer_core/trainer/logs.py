"""The log of a run: a CSV file, TensorBoard, and one line for people."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.progress import Estimate

_RECENT = 20


class Log:
    """Rows of a run, one per step.

    Parameters
    ----------
    path
        CSV file, rewritten whole at evaluations.
    tensorboard
        Folder for TensorBoard's files; None for none.

    Attributes
    ----------
    rows
        All steps so far.
    notes
        What the user should know of the logging itself.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.notes: list[str] = []
        self._board: Any = None
        if tensorboard is not None:
            self._board = _board(tensorboard)
            if self._board is None:
                self.notes.append("TensorBoard is not installed (extra [train]); CSV only")

    def resume(self, step: int) -> None:
        """Take the rows up to a step over from the file of the process that was killed."""
        if not self.path.is_file():
            return
        with self.path.open(encoding="utf-8", newline="") as stream:
            rows = [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(stream)
            ]
        self.rows = [row for row in rows if row["step"] <= step]

    def add(self, row: dict[str, float]) -> None:
        """Append a step."""
        self.rows.append(row)
        if self._board is not None:
            self._send(row)

    def amend(self, values: dict[str, float]) -> None:
        """Add values to the last step."""
        self.rows[-1] |= values
        if self._board is not None:
            self._send({"step": self.rows[-1]["step"], **values})

    def _send(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            if name != "step":
                self._board.add_scalar(name, value, int(row["step"]))

    def write(self) -> None:
        """Write the CSV file."""
        names = sorted({name for row in self.rows for name in row}, key=lambda n: (n != "step", n))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        with files.atomic_write(self.path, "w") as stream:
            stream.write(text.getvalue())

    def close(self) -> None:
        """Finish TensorBoard's files."""
        if self._board is not None:
            self._board.close()

    def line(self, done: float, estimate: Estimate) -> str:
        """Return the state of the run in one line."""
        recent = self.rows[-_RECENT:]
        names = [name for name in self.rows[-1] if name.startswith("loss_")] if recent else []
        parts = [f"step {int(self.rows[-1]['step']) if recent else 0}"]
        parts += [
            f"{name[5:].replace('_', ' ')} {np.mean([row[name] for row in recent]):.3f}"
            for name in sorted(names)
        ]
        pace: dict[str, float] = next((row for row in reversed(recent) if "tflops" in row), {})
        if pace:
            parts.append(f"{pace['pairs_per_s']:,.0f} pairs/s {pace['tokens_per_s']:,.0f} tokens/s")
        if "mfu" in pace:
            parts.append(f"utilisation {pace['mfu']:.0%}")
        if "memory_gb" in pace:
            parts.append(f"{pace['memory_gb']:.1f} GB")
        scored = next((row for row in reversed(self.rows) if "validation" in row), None)
        if scored is not None:
            parts.append(f"validation {scored['validation']:.3f}")
        left = estimate.remaining_s(done, 1.0)
        if left is not None:
            parts.append(f"about {left / 60:.1f} min left")
        return ", ".join([*parts, *self.notes])


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
