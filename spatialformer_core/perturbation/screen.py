"""A whole screen: plan, gate, exact effects, tests and the words around them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import BoolArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import published_test
from spatialformer_core.perturbation.contrast import build_table
from spatialformer_core.perturbation.cost import choose_mode, cost_of
from spatialformer_core.perturbation.effects import beside, carry_out, make_work, on_targets
from spatialformer_core.perturbation.facts import ModelFacts
from spatialformer_core.perturbation.farm import Farm
from spatialformer_core.perturbation.gate import Gate, measure_gate
from spatialformer_core.perturbation.interpret import interpret
from spatialformer_core.perturbation.methods import how_found
from spatialformer_core.perturbation.plan import (
    GenePairIndex,
    ScreenPlan,
    carriers,
    make_plan,
    presence,
)
from spatialformer_core.perturbation.report import ONE_DONOR, ScreenResult
from spatialformer_core.perturbation.request import MIN_COVERAGE, ScreenRequest
from spatialformer_core.perturbation.tally import Tally
from spatialformer_core.perturbation.targets import Targets
from spatialformer_core.perturbation.tissue import (
    SPILLED,
    UNDECIDED,
    PairTable,
    SpilloverCodes,
    Tissue,
)
from spatialformer_core.perturbation.words import describe, reasons_without_p
from spatialformer_core.progress import Cancel, Progress, never, silent, staged

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer


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
            else f"One donor: this {ONE_DONOR}."
        )
    if request.test == "published":
        marks.append(published_test.MARK)
    return marks


@dataclass(frozen=True, slots=True)
class Given:
    """What a screen can do without.

    Attributes
    ----------
    cooccurring
        Sparse boolean ``(n_genes, n_genes)``, symmetric: gene pairs that co-occur inside single
        cells; None if not computed.
    farm
        Where shards of the cell pairs are made and kept, so that a stopped screen can go on; None:
        in this process, kept nowhere.
    """

    cooccurring: Any | None = None
    farm: Farm | None = None


def run_screen(
    tissues: Sequence[Tissue],
    scorer: PairScorer,
    model: ModelFacts,
    request: ScreenRequest,
    *,
    given: Given | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> ScreenResult:
    """Run a screen.

    Parameters
    ----------
    tissues
        The slides, with tokens.
    scorer, model
        The checkpoint.
    request
        What to do.
    given
        What else there is.

    Raises
    ------
    SpatialFormerError
        For tissue, types or checkpoints that cannot be screened; see `make_plan`, `check_model`.
    Cancelled
        If the user cancels.
    """
    started = time.monotonic()
    farm, cooccurring = (given or Given()).farm, (given or Given()).cooccurring
    marks = check_model(tissues, model, request)
    progress(0.0, 1.0, "Choosing cell pairs")
    targets, tissues = on_targets(tissues, model, request)
    plan = make_plan(tissues, request)
    mode = choose_mode(plan, request, model)
    progress(0.02, 1.0, "Measuring what the checkpoint can tell apart")
    gate = measure_gate(scorer, plan.slides, request, cancel)
    work = make_work(plan, scorer, model, request, targets, cancel=cancel)
    cost = cost_of(plan, request, mode, model.architecture, farm.n_shards if farm else None)
    began = time.monotonic()
    told = staged(progress, 0.05, 0.98)
    found = carry_out(work, cost, mode, request, farm=farm, progress=told, cancel=cancel)
    effects_s = time.monotonic() - began
    tally = found.reported(request)
    table = build_table(
        tally,
        targets.names,
        with_p=not reasons_without_p(plan, gate, request),
        co_occurs=_linked(plan.index, targets, cooccurring),
        in_sample=_in_sample(plan, request),
        spillover=_spillover(plan),
        test=request.test,
    )
    table = beside(found, plan, table, targets.names)
    info = describe(plan, gate, request, table, marks)
    info["checkpoint"] = _about(model)
    info = how_found(info, request, mode, found, targets)
    info["cost"] = {
        "encodings": found.facts["encodings"],
        "head_evaluations": found.facts["evaluations"],
        "effects_seconds": round(effects_s, 3),
        "seconds": round(time.monotonic() - started, 2),
    }
    if cooccurring is None:
        info["not_computed"]["co_occurs"] = "no transcript positions"

    def tally_of(other: ScreenPlan) -> Tally:
        again = make_work(other, scorer, model, request, targets, cancel=cancel)
        shards = cost_of(other, request, mode, model.architecture)
        return carry_out(again, shards, mode, request, cancel=cancel).reported(request)

    return interpret(ScreenResult(table, info), plan, tally, request, tally_of)


def _linked(index: GenePairIndex, targets: Targets, cooccurring: Any | None) -> BoolArray | None:
    if cooccurring is None:
        return None
    if not len(index):
        # A sparse matrix at no place is no array.
        return np.zeros(0, np.bool_)
    matrix = targets.linked(cooccurring)
    found: BoolArray = np.asarray(matrix[index.left, index.right]).ravel().astype(np.bool_)
    return found


def _about(model: ModelFacts) -> dict[str, Any]:
    return {
        "name": model.name,
        "id": model.id,
        "simulated": model.simulated,
        "coverage": model.coverage,
        "vocabulary_fingerprint": model.fingerprint,
    }


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


__all__ = ["Gate", "ModelFacts", "check_model", "run_screen"]
