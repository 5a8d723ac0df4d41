"""From a plan to the sums of its effects: exactly, or by proposals that are then exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import LongArray
from spatialformer_core.perturbation.contrast import sides
from spatialformer_core.perturbation.cost import Cost, Mode
from spatialformer_core.perturbation.engine import Knocking
from spatialformer_core.perturbation.evaluator import Evaluator
from spatialformer_core.perturbation.facts import ModelFacts
from spatialformer_core.perturbation.farm import Farm, Run
from spatialformer_core.perturbation.plan import ScreenPlan
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.screened import measured_recall, propose
from spatialformer_core.perturbation.shards import Tallies, Work
from spatialformer_core.perturbation.tally import Tally
from spatialformer_core.perturbation.targets import Targets, choose_targets
from spatialformer_core.perturbation.tissue import SPILLED, UNDECIDED, Tissue
from spatialformer_core.progress import Cancel, Progress, never, silent

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.inference import PairScorer

_TOLD_EVERY = 20


@dataclass(frozen=True, slots=True)
class Found:
    """All effects of a screen.

    Attributes
    ----------
    tallies
        Their sums.
    slots
        Gene pairs whose sums are exact; None if all are.
    facts
        Encodings, evaluations and, of a screened run, the measured recall.
    """

    tallies: Tallies
    slots: LongArray | None
    facts: dict[str, Any]

    def reported(self, request: ScreenRequest) -> Tally:
        """Return the sums that the table is made of."""
        controlled = self.tallies.controlled
        # The published analysis knew no controls.
        if controlled is None or request.control != "subtract" or request.test == "published":
            return self.tallies.raw
        return controlled


def on_targets(
    tissues: Sequence[Tissue], model: ModelFacts, request: ScreenRequest
) -> tuple[Targets, list[Tissue]]:
    """Return what is knocked out, and the slides with presence and marks of that.

    Raises
    ------
    SpatialFormerError
        For genes and sets that the checkpoint does not know.
    """
    targets = choose_targets(request, model.genes, model.gene_offset)
    if targets.every_gene:
        return targets, list(tissues)
    return targets, [
        replace(
            tissue,
            presence=targets.presence(tissue.presence),
            spillover=None
            if tissue.spillover is None
            else (_gravest(targets, tissue.spillover[0]), _gravest(targets, tissue.spillover[1])),
        )
        for tissue in tissues
    ]


def _gravest(targets: Targets, codes: Any) -> Any:
    spilled = (targets.members @ (codes == SPILLED).astype(np.int64)) > 0
    undecided = (targets.members @ (codes == UNDECIDED).astype(np.int64)) > 0
    return np.select([spilled, undecided], [SPILLED, UNDECIDED], 0).astype(np.int8)


def make_work(
    plan: ScreenPlan,
    scorer: PairScorer,
    model: ModelFacts,
    request: ScreenRequest,
    targets: Targets,
    *,
    cancel: Cancel = never,
) -> Work:
    """Return what shards of a screen need."""
    evaluator = Evaluator(scorer, model.cells_per_call, model.pairs_per_call, cancel)
    seed = None if request.control == "none" else request.seed
    how = Knocking(request.knockout, targets, seed)
    return Work(plan, evaluator, how, request.same_type, request.seed)


def carry_out(
    work: Work,
    cost: Cost,
    mode: Mode,
    request: ScreenRequest,
    *,
    farm: Farm | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Found:
    """Return all effects of a screen.

    Parameters
    ----------
    work, cost, mode, request
        What is made, in which shards, how.
    farm
        Where shards are kept; None keeps nothing.

    Raises
    ------
    Cancelled
        If the user cancels; shards that a farm holds stay.
    """
    _count(work, mode, progress)
    run = Run(work, cost.shards, farm, progress, cancel)
    if mode == "exact":
        tallies, facts = run.exact()
        return Found(tallies, None, facts)

    def choose(proposed: Tallies) -> LongArray:
        tally = Found(proposed, None, {}).reported(request)
        return propose(tally, request.candidates, with_p=work.plan.no_p_reason is None)

    tallies, slots, facts = run.screened(choose)
    return Found(tallies, slots, {**facts, "recall": measured_recall(facts["recall"])})


def _count(work: Work, mode: Mode, progress: Progress) -> None:
    """Let the work tell how many cell pairs it has done."""
    total = len(work.ordered.unit) * (1 if mode == "exact" else 2)
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if done % _TOLD_EVERY == 0 or done == total:
            progress(done, total, f"{done:,} of {total:,} cell pairs")

    work.on_pair = one_more


def beside(found: Found, plan: ScreenPlan, table: pd.DataFrame, names: Sequence[str]) -> Any:
    """Return the table of the reported gene pairs with raw, controlled and probability effects.

    Parameters
    ----------
    found, plan
        The screen.
    table
        From `build_table`, all tested gene pairs.
    names
        Of the targets.
    """
    number = {name: k for k, name in enumerate(names)}
    left, right = (table[f"gene_{side}"].map(number).to_numpy(int) for side in ("left", "right"))
    slot = plan.index.slot[left, right]
    columns = {}
    for kind in ("raw", "controlled"):
        tally = found.tallies.each.get(kind)
        for quantity in ("d", "epsilon"):
            columns[f"{quantity}_{kind}"] = (
                np.nan if tally is None else _estimate(tally, quantity)[slot]
            )
    last = found.tallies.controlled or found.tallies.raw
    columns["probability"] = _estimate(last, "probability")[slot]
    filled = table.assign(**columns)
    if found.slots is None:
        return filled
    return filled[np.isin(slot, found.slots)].reset_index(drop=True)


def _estimate(tally: Tally, quantity: str) -> Any:
    near, far = sides(tally, quantity)
    return near.mean(axis=0) - far.mean(axis=0)
