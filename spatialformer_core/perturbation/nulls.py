"""Does the test hold its level here? Near and far exchanged at random within each unit.

The exchanged pairs keep their cells, genes and unit; only which of them are near is forgotten. So
what such a screen rejects, it rejects without a reason. (The other null model, a checkpoint that
was trained on shuffled labels, is a screen of its own.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spatialformer_core.perturbation.contrast import contrast
from spatialformer_core.perturbation.far import FarPairs
from spatialformer_core.perturbation.plan import ScreenPlan
from spatialformer_core.perturbation.tally import Tally
from spatialformer_core.perturbation.tissue import concatenate

ALPHA = 0.05


def exchanged(plan: ScreenPlan, seed: int) -> ScreenPlan:
    """Return the plan with near and far drawn anew within each unit; sizes stay as they are.

    A unit with pairs of one side only (`--versus` between donors) exchanges nothing: there whole
    units change sides, as many as before.
    """
    rng = np.random.default_rng(seed)
    pairs = concatenate([plan.near, plan.far.pairs])
    unit = np.concatenate([plan.near_unit, plan.far.unit])
    is_near = np.arange(len(pairs)) < len(plan.near)
    n_units = len(plan.unit_names)
    near_of = np.bincount(unit[is_near], minlength=n_units)
    far_of = np.bincount(unit[~is_near], minlength=n_units)
    if not (np.minimum(near_of, far_of) > 0).any():
        side = rng.permutation(near_of > 0)
        now_near = side[unit]
    else:
        now_near = np.zeros(len(pairs), np.bool_)
        for number in range(n_units):
            mine = np.flatnonzero(unit == number)
            now_near[rng.permutation(mine)[: near_of[number]]] = True
    far = FarPairs(pairs.take(~now_near), unit[~now_near], plan.far.source, plan.far.imbalance)
    return replace(plan, near=pairs.take(now_near), near_unit=unit[now_near], far=far)


def rejected(tally: Tally) -> dict[str, float]:
    """Return the share of gene pairs with p < 0.05, and whether any has q < 0.05."""
    out = {}
    for name, quantity in (("effect", "d"), ("interaction", "epsilon")):
        found = contrast(tally, quantity, with_p=True)
        known = ~np.isnan(found.p)
        out[name] = float((found.p[known] < ALPHA).mean()) if known.any() else float("nan")
        out[f"{name}_any_q"] = float((found.q[known] < ALPHA).any())
    return out


def null_screens(
    plan: ScreenPlan, n_runs: int, seed: int, tally_of: Callable[[ScreenPlan], Tally]
) -> dict[str, Any]:
    """Return what the test rejects in screens without a difference.

    Parameters
    ----------
    plan
        The screen.
    n_runs
        How many times; each costs as much as the screen itself.
    seed
        Of the exchanges.
    tally_of
        Carries out a plan.
    """
    runs = [rejected(tally_of(exchanged(plan, seed + 1 + k))) for k in range(n_runs)]
    return {"runs": n_runs, "alpha": ALPHA, **_summary(runs)}


def _summary(runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in ("effect", "interaction"):
        shares = [run[name] for run in runs if not np.isnan(run[name])]
        out[name] = {
            "rejected": round(float(np.mean(shares)), 4) if shares else None,
            "runs_with_any_q": int(sum(run[f"{name}_any_q"] for run in runs)),
        }
    return out
