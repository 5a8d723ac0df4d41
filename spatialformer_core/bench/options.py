"""How a benchmark runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from spatialformer_core.config import FrozenModel


class BenchOptions(FrozenModel):
    """Settings of one run.

    Attributes
    ----------
    scale
        Share of the full input sizes; the limits hold for 1.
    rounds
        Repeats of each timing; the best counts.
    whole
        Also the long rows: 40 M transcripts through co-occurrence and ingest.
    slide
        Folder of a real slide to ingest (the pancreas, for its limit).
    peer_python
        Interpreter of an environment with the published package.
    cache
        Folder that keeps the made-up slides of stage ``app`` (3.5 GB) for the next run; without
        one it is ``bench-app`` in the home folder.
    """

    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    rounds: Annotated[int, Field(ge=1, le=100)] = 3
    seed: int = 0
    whole: bool = False
    slide: Path | None = None
    peer_python: Path | None = None
    cache: Path | None = None

    def scaled(self, n: int) -> int:
        """Return a size at this run's scale, at least 1."""
        return max(1, round(n * self.scale))
