"""A whole screen: plan, gate, exact effects, tests and the words around them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from spatialformer_core.arrays import BoolArray, CellTokens, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.contrast import build_table
from spatialformer_core.perturbation.engine import exact_effects
from spatialformer_core.perturbation.gate import Gate, measure_gate
from spatialformer_core.perturbation.plan import (
    GenePairIndex,
    ScreenPlan,
    carriers,
    encodings_and_grid,
    make_plan,
    presence,
)
from spatialformer_core.perturbation.report import ScreenResult
from spatialformer_core.perturbation.request import MIN_COVERAGE, ScreenRequest
from spatialformer_core.perturbation.tally import FAR, NEAR, Tally
from spatialformer_core.perturbation.tissue import (
    SPILLED,
    UNDECIDED,
    PairTable,
    SpilloverCodes,
    Tissue,
    concatenate,
)
from spatialformer_core.perturbation.words import describe
from spatialformer_core.progress import Cancel, Progress, never, silent

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer


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
    """

    name: str
    id: str
    simulated: bool
    genes: tuple[str, ...]
    gene_offset: int
    coverage: float
    fingerprint: str


def check_model(tissues: Sequence[Tissue], model: ModelFacts, request: ScreenRequest) -> list[str]:
    """Refuse a checkpoint that does not fit the tissue; return the marks for every output.

    Raises
    ------
    SpatialFormerError
        If it knows too little of the panel, or is a simulated one on real tissue.
    """
    if model.coverage < MIN_COVERAGE:
        raise SpatialFormerError(
            f"Checkpoint {model.name!r} knows {model.coverage:.0%} of the slide's gene panel, at "
            f"least {MIN_COVERAGE:.0%} are needed.",
            fix="Choose a checkpoint that was trained on this panel.",
        )
    marks = []
    if model.simulated and not all(tissue.simulated for tissue in tissues):
        if not request.allow_simulated:
            raise SpatialFormerError(
                f"Checkpoint {model.name!r} was trained on simulated tissue and says nothing about "
                "a real slide.",
                fix="Choose a checkpoint trained on real tissue, or allow it knowingly; every "
                "output is then marked.",
            )
        marks.append(
            "SIMULATED CHECKPOINT: the network was trained on simulated tissue; nothing here is a "
            "finding about this real tissue."
        )
    if len({tissue.donor for tissue in tissues}) == 1:
        several = len(tissues) > 1
        marks.append(
            "One donor: this describes these sections only."
            if several
            else "One donor: this describes this section only."
        )
    return marks


def run_screen(
    tissues: Sequence[Tissue],
    scorer: PairScorer,
    model: ModelFacts,
    request: ScreenRequest,
    *,
    cooccurring: Any | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> ScreenResult:
    """Run a screen exactly.

    Parameters
    ----------
    tissues
        The slides, with tokens.
    scorer, model
        The checkpoint.
    request
        What to do.
    cooccurring
        Sparse boolean ``(n_genes, n_genes)``, symmetric: gene pairs that co-occur inside single
        cells; None if not computed.

    Raises
    ------
    SpatialFormerError
        For tissue, types or checkpoints that cannot be screened; see `make_plan`, `check_model`.
    Cancelled
        If the user cancels.
    """
    started = time.monotonic()
    marks = check_model(tissues, model, request)
    progress(0.0, 1.0, "Choosing cell pairs")
    plan = make_plan(tissues, request)
    progress(0.02, 1.0, "Measuring what the checkpoint can tell apart")
    gate = measure_gate(scorer, plan.slides, request, cancel)
    began = time.monotonic()
    tally = tally_effects(plan, scorer, model, request, progress=progress, cancel=cancel)
    effects_s = time.monotonic() - began
    with_p = plan.no_p_reason is None and gate.open
    flags = None
    if cooccurring is not None:
        matrix = sparse.csr_matrix(cooccurring)
        flags = np.asarray(matrix[plan.index.left, plan.index.right]).ravel().astype(np.bool_)
    table = build_table(
        tally,
        model.genes,
        with_p=with_p,
        co_occurs=flags,
        in_sample=_in_sample(plan, request),
        spillover=_spillover(plan),
    )
    info = describe(plan, gate, request, table, marks)
    info["checkpoint"] = {
        "name": model.name,
        "id": model.id,
        "simulated": model.simulated,
        "coverage": model.coverage,
        "vocabulary_fingerprint": model.fingerprint,
    }
    encodings, evaluations = encodings_and_grid(plan)
    info["cost"] = {
        "encodings": encodings,
        "head_evaluations": evaluations,
        "effects_seconds": round(effects_s, 3),
        "seconds": round(time.monotonic() - started, 2),
    }
    if cooccurring is None:
        info["not_computed"]["co_occurs"] = "no transcript positions"
    return ScreenResult(table, info)


def tally_effects(
    plan: ScreenPlan,
    scorer: PairScorer,
    model: ModelFacts,
    request: ScreenRequest,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Tally:
    """Return the sums of all exact effects of a plan."""
    tally = Tally(plan.index, len(plan.unit_names), token_to_gene(model))
    # Near and far pairs go together: they share cells, and so encodings.
    pairs = concatenate([plan.near, plan.far.pairs])
    unit = np.concatenate([plan.near_unit, plan.far.unit])
    side = np.repeat([NEAR, FAR], [len(plan.near), len(plan.far.pairs)])
    done = 0
    for number, tissue in enumerate(plan.slides.tissues):
        here = np.flatnonzero(pairs.slide == number)
        here = here[np.lexsort((pairs.left[here], unit[here]))]
        if not len(here):
            continue
        for effects in exact_effects(
            scorer,
            _tokens(tissue),
            pairs.left[here],
            pairs.right[here],
            knockout=request.knockout,
            cancel=cancel,
        ):
            row = here[effects.number]
            tally.add(effects, int(side[row]), int(unit[row]))
            if request.same_type:
                tally.add(effects.mirrored(), int(side[row]), int(unit[row]))
            done += 1
            if done % 20 == 0 or done == len(pairs):
                share = 0.05 + 0.93 * done / len(pairs)
                progress(share, 1.0, f"{done:,} of {len(pairs):,} cell pairs")
    return tally


def _tokens(tissue: Tissue) -> CellTokens:
    if tissue.cells is None:
        message = f"slide {tissue.slide_id} was given without tokens"
        raise ValueError(message)
    return tissue.cells


def token_to_gene(model: ModelFacts) -> LongArray:
    """Return the gene column of each token id, shape ``(n_tokens,)``."""
    return np.arange(model.gene_offset + len(model.genes)) - model.gene_offset


def _in_sample(plan: ScreenPlan, request: ScreenRequest) -> BoolArray | None:
    """Return which gene pairs rest on near cell pairs with a cell seen in training."""
    tissues = plan.slides.tissues
    if any(tissue.seen is None for tissue in tissues):
        return None
    seen = np.zeros(len(plan.near), np.bool_)
    for number, tissue in enumerate(tissues):
        if tissue.seen is not None:
            here = plan.near.slide == number
            seen[here] = tissue.seen[plan.near.left[here]] | tissue.seen[plan.near.right[here]]
    return _carried(plan.index, tissues, plan.near.take(seen), same_type=request.same_type)


def _spillover(plan: ScreenPlan) -> SpilloverCodes | None:
    """Return the code of each gene pair: of its two genes on all slides, the gravest."""
    found = []
    for tissue in plan.slides.tissues:
        if tissue.spillover is None:
            return None
        left, right = tissue.spillover
        found += [left[plan.index.left], right[plan.index.right]]
    codes = np.array(found)
    any_undecided = np.where((codes == UNDECIDED).any(axis=0), UNDECIDED, 0)
    return np.where((codes == SPILLED).any(axis=0), SPILLED, any_undecided).astype(np.int8)


def _carried(
    index: GenePairIndex, tissues: Sequence[Tissue], pairs: PairTable, *, same_type: bool
) -> BoolArray:
    if not len(pairs):
        return np.zeros(len(index), np.bool_)
    counts = carriers(
        presence(tissues, pairs, "left"), presence(tissues, pairs, "right"), same_type=same_type
    ).tocsr()
    found: BoolArray = np.asarray(counts[index.left, index.right]).ravel() > 0
    return found


__all__ = ["Gate", "ModelFacts", "check_model", "run_screen", "tally_effects"]
