"""What stands beside the table of a screen: reach, direction, ranks, nulls, known pairs, sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from spatialformer_core.perturbation import enrichment, ligand_receptor
from spatialformer_core.perturbation.agreement import MIN_CHECKPOINTS, add_agreement
from spatialformer_core.perturbation.nulls import null_screens
from spatialformer_core.perturbation.plan import ScreenPlan
from spatialformer_core.perturbation.published_test import published_test
from spatialformer_core.perturbation.report import ONE_DONOR, ScreenResult
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.tally import Tally
from spatialformer_core.perturbation.tissue import concatenate

if TYPE_CHECKING:
    import pandas as pd

_MIN_FOR_CORRELATION = 10


def interpret(
    result: ScreenResult,
    plan: ScreenPlan,
    tally: Tally,
    request: ScreenRequest,
    tally_of: Callable[[ScreenPlan], Tally],
) -> ScreenResult:
    """Return the result with its reach, cell pairs, direction, ranks and null screens.

    Parameters
    ----------
    result
        Table and facts.
    plan, tally, request
        What was compared, its sums, and what was asked.
    tally_of
        Carries out a plan; called once per null screen.
    """
    donors = sorted({tissue.donor for tissue in plan.slides.tissues})
    scope = ONE_DONOR if len(donors) == 1 else f"{len(donors)} donors"
    table = result.table.assign(scope=scope)
    info = {
        **result.info,
        "scope": scope,
        "donors": donors,
        "direction": direction(table),
        "effect_against_rank": effect_against_rank(table),
    }
    if request.test == "published":
        test, first = published_test(tally)
        info["published_test"] = test.facts(first)
    if request.null_runs:
        info["null_screens"] = null_screens(plan, request.null_runs, request.seed, tally_of)
    return replace(result, table=table, info=info, pairs=cell_pairs(plan))


def direction(table: pd.DataFrame) -> dict[str, int]:
    """Return how many effects and interactions point which way.

    Effects below 0: without the two genes the network expects less contact.
    """
    effect, epsilon = table["d_diff"], table["epsilon"]
    return {
        "less_contact_without": int((effect < 0).sum()),
        "more_contact_without": int((effect > 0).sum()),
        "joint": int(((epsilon > 0) & (effect < 0)).sum()),
        "redundant": int((epsilon < 0).sum()),
    }


def effect_against_rank(table: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Return the rank correlation of strength with the rank of either gene in its cell.

    Deleting a highly ranked gene moves more tokens; a correlation near -1 says that the table
    tells ranks rather than genes. None with fewer than ten gene pairs, or where nothing varies.
    """
    out: dict[str, dict[str, float | None]] = {}
    for name, column in (("effect", "d_diff"), ("interaction", "epsilon")):
        strength = table[column].abs().to_numpy(np.float64)
        out[name] = {
            side: _correlation(strength, table[f"rank_{side}"].to_numpy(np.float64))
            for side in ("left", "right")
        }
    return out


def _correlation(one: Any, other: Any) -> float | None:
    known = ~(np.isnan(one) | np.isnan(other))
    one, other = one[known], other[known]
    if len(one) < _MIN_FOR_CORRELATION or not np.ptp(one) or not np.ptp(other):
        return None
    return round(float(stats.spearmanr(one, other).statistic), 4)


def cell_pairs(plan: ScreenPlan) -> pd.DataFrame:
    """Return the cell pairs of a screen, from which examples of a gene pair are taken.

    Columns: ``slide_id cell_left cell_right`` (row numbers of the slide), ``side`` (near or far),
    ``unit``, ``x_um y_um`` of the midpoint.
    """
    import pandas as pd

    pairs = concatenate([plan.near, plan.far.pairs])
    unit = np.concatenate([plan.near_unit, plan.far.unit])
    side = np.repeat(["near", "far"], [len(plan.near), len(plan.far.pairs)])
    slides = np.array([tissue.slide_id for tissue in plan.slides.tissues], dtype=object)
    return pd.DataFrame(
        {
            "slide_id": pd.Categorical(slides[pairs.slide]),
            "cell_left": pairs.left,
            "cell_right": pairs.right,
            "side": pd.Categorical(side),
            "unit": pd.Categorical(np.array(plan.unit_names, dtype=object)[unit]),
            "x_um": np.round(pairs.mid_um[:, 0], 2),
            "y_um": np.round(pairs.mid_um[:, 1], 2),
        }
    )


def compare_with_known(
    result: ScreenResult,
    request: ScreenRequest,
    known: ligand_receptor.LigandReceptors | None,
    libraries: Sequence[enrichment.GeneSets] = (),
) -> ScreenResult:
    """Return the result with ligand-receptor pairs marked and gene sets tested.

    Parameters
    ----------
    result
        A screen.
    request
        What was asked.
    known
        Ligand-receptor pairs; None marks none.
    libraries
        Gene sets; without any, nothing is tested.
    """
    import pandas as pd

    table, info = result.table, dict(result.info)
    absent = dict(info["not_computed"])
    enriched = None
    if known is not None:
        is_known, ligand = ligand_receptor.mark(table, known)
        table = table.assign(is_ligand_receptor=pd.array(is_known, dtype="boolean"), ligand=ligand)
        info["ligand_receptor"] = ligand_receptor.enrichment(
            table, known, same_type=request.same_type, seed=request.seed
        )
        absent.pop("is_ligand_receptor", None)
    if libraries:
        enriched = enrichment.enrich(table, libraries).assign(scope=info["scope"])
        info["enrichment"] = enrichment.facts(table, libraries, enriched)
    info["not_computed"] = absent
    return replace(result, table=table, info=info, enriched=enriched)


def compare_checkpoints(result: ScreenResult, others: Mapping[str, ScreenResult]) -> ScreenResult:
    """Return the result with what further checkpoints say of the same gene pairs."""
    table, facts = add_agreement(
        result.table, {name: other.table for name, other in others.items()}
    )
    n = len(others) + 1
    facts["checkpoints"] = [result.info["checkpoint"]["name"], *facts["checkpoints"]]
    facts["gates_open"] = [r.info["gate"]["open"] for r in (result, *others.values())]
    facts["sentence"] = _agreement_sentence(n, facts)
    return replace(result, table=table, info={**result.info, "agreement": facts})


def _agreement_sentence(n: int, facts: Mapping[str, Any]) -> str:
    least, share = facts["interaction"]["least"], facts["interaction"]["same_sign_in_all"]
    if least is None or share is None:
        return f"The {n} checkpoints share too few gene pairs to be compared."
    sentence = (
        f"{n} checkpoints: interactions correlate with rho >= {least:.2f} (ranks), and all give "
        f"{share:.0%} of the gene pairs the same sign."
    )
    if n < MIN_CHECKPOINTS:
        sentence += f" {MIN_CHECKPOINTS} are needed before this is called agreement."
    return sentence
