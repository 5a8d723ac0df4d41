"""What a screen must know of a checkpoint besides its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["two-tower", "cross-encoder"]


@dataclass(frozen=True, slots=True)
class Rates:
    """Speed of a checkpoint on this machine.

    Attributes
    ----------
    encodings_per_s
        Single-cell encodings per second.
    evaluations_per_s
        Evaluations of cell pairs (of both orders, for a cross-encoder) per second.
    measured
        Whether a screen with this checkpoint measured them here.
    """

    encodings_per_s: float
    evaluations_per_s: float
    measured: bool


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a screen must know of a checkpoint besides its scores.

    Attributes
    ----------
    name, id
        Of the checkpoint.
    simulated
        Whether it was trained on simulated tissue.
    genes
        Gene columns of `Tissue.presence`, in vocabulary order.
    gene_offset
        Vocabulary id of the first gene.
    coverage
        Share of the slides' panel that it knows (the lowest of the slides).
    fingerprint
        Of its vocabulary.
    architecture
        Two towers, whose encodings all gene pairs of a cell share, or a cross-encoder.
    on_gpu, rates
        Whether it runs on a GPU, and how fast; None if nobody knows. Mode ``auto`` decides by them.
    cells_per_call, pairs_per_call
        Most that is computed at once; also how long a cancelled screen works on.
    """

    name: str
    id: str
    simulated: bool
    genes: tuple[str, ...]
    gene_offset: int
    coverage: float
    fingerprint: str
    architecture: Architecture = "two-tower"
    on_gpu: bool = False
    rates: Rates | None = None
    cells_per_call: int = 2_048
    pairs_per_call: int = 1 << 20
