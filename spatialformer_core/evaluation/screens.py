"""Suite ``screen``: what a screen finds where the truth was planted, and where there is none.

Planted tissues: locks and keys whose joint presence decides contact (`simulate.planted`), beside
decoys that are expressed like them, follow a zone, or spill over. Null tissues: the same tissue
with the expression of each type dealt out anew; there 5 % of the tests shall reject at .05. What
the gate of a screen would have kept back is measured too: p-values are computed in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from spatialformer_core.config import FrozenModel
from spatialformer_core.evaluation.screen_tissue import TissueKind, TissueSize, make_tissue
from spatialformer_core.perturbation import (
    Gate,
    ModelFacts,
    ScreenRequest,
    Tissue,
    make_plan,
    measure_gate,
)
from spatialformer_core.perturbation.contrast import build_table
from spatialformer_core.perturbation.cost import choose_mode, cost_of
from spatialformer_core.perturbation.effects import carry_out, make_work, on_targets
from spatialformer_core.perturbation.request import FarFrom
from spatialformer_core.progress import Cancel, Progress, check, never, silent
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.inference import PairScorer

SUITE = "screen"
ALPHA = 0.05
_FIRST_SEED, _FIRST_NULL_SEED = 50_001, 60_001
_GENES_SEED = 7

LOCKS = tuple(pair.gene_left for pair in planted.CONTACT_PAIRS)
KEYS = tuple(pair.gene_right for pair in planted.CONTACT_PAIRS)
LINKED = tuple(zip(LOCKS, KEYS, strict=True))
_DECOYS = tuple((p.gene_left, p.gene_right) for p in planted.CONTACT_PAIR_DECOYS)
_ZONE = tuple(rule.gene for rule in planted.ZONE_GENES)
_SPILLED = tuple(rule.gene for rule in planted.SPILLOVER_GENES)
_TOUCHED = {
    side: tuple(r.gene for r in planted.CONTACT_GENES if r.cell_type == side)
    for side in (planted.MACROPHAGE, planted.T_CELL)
}

EXPRESSION, ZONE, SPILLOVER = "expression-matched", "zone-only", "spillover-only"


def decoy_kind(left: str, right: str) -> str | None:
    """Return which kind of decoy a gene pair is; such pairs must not be found.

    Spillover-only are pairs of a gene that neither type makes with one that has no planted role
    for the two types, and of two such genes.
    """
    if (left, right) in _DECOYS:
        return EXPRESSION
    if left in _ZONE and right in _ZONE:
        return ZONE
    roles = {*LOCKS, *KEYS, *_ZONE, *(gene for pair in _DECOYS for gene in pair)}
    roles |= {gene for genes in _TOUCHED.values() for gene in genes}
    spilled = left in _SPILLED or right in _SPILLED
    return SPILLOVER if spilled and not {left, right} & roles else None


class ScreenSuiteSettings(FrozenModel):
    """What the suite measures.

    Attributes
    ----------
    seeds, nulls, unplanted
        Planted tissues; null tissues whose expression is dealt out anew; tissues without planted
        relations, where zones and spillover remain.
    cells, granulomas
        Of each tissue; granulomas are the replicates.
    background
        Genes of the panel without a planted role that are tested beside all those that have one.
        Every gene that is tested is tested with every other; the correction is over all of them.
    max_pairs_per_unit
        Near pairs of a granuloma that are used.
    control
        ``beside`` computes raw effects and those less their controls; ``none`` the raw ones, as
        on null tissues always.
    far_from
        See `ScreenRequest`.
    """

    seeds: int = Field(default=10, ge=1, le=1000)
    nulls: int = Field(default=20, ge=0, le=1000)
    unplanted: int = Field(default=5, ge=0, le=1000)
    cells: int = Field(default=6_000, ge=1_000, le=200_000)
    granulomas: int = Field(default=12, ge=6, le=200)
    background: int = Field(default=30, ge=0, le=400)
    max_pairs_per_unit: int = Field(default=80, ge=10, le=20_000)
    control: Literal["beside", "none"] = "beside"
    far_from: FarFrom = "around"

    @property
    def size(self) -> TissueSize:
        """Size of each tissue."""
        return TissueSize(self.cells, self.granulomas)

    def request(self, kind: TissueKind, seed: int) -> ScreenRequest:
        """Return the screen of one tissue."""
        return ScreenRequest(
            slide_ids=("simulated",),
            groupby="cell_type",
            group_left=planted.MACROPHAGE,
            group_right=planted.T_CELL,
            checkpoint_id="suite",
            unit="roi",
            seed=seed,
            control=self.control if kind == "planted" else "none",
            far_from=self.far_from,
            genes=suite_genes(self.background),
            max_pairs_per_unit=self.max_pairs_per_unit,
        )


def suite_genes(background: int) -> tuple[str, ...]:
    """Return the genes with a planted role in these two types, and others drawn at random."""
    chosen = [*LOCKS, *KEYS, *(gene for pair in _DECOYS for gene in pair)]
    chosen += [gene for genes in _TOUCHED.values() for gene in genes]
    chosen += [*_ZONE, *_SPILLED]
    known = planted.planted_genes()
    free = [gene for gene in load_panel().genes if gene not in known]
    rng = np.random.default_rng(_GENES_SEED)
    return (*chosen, *rng.permutation(free)[:background].tolist())


@dataclass(frozen=True, slots=True)
class Screened:
    """A screen of one tissue.

    Attributes
    ----------
    tables
        ``raw`` effects and, where there are controls, ``controlled`` ones, with p-values.
    gate
        What the gate says; it keeps nothing back here.
    facts
        Units, cell pairs, evaluations, and the measured recall of a screened run.
    """

    tables: dict[str, pd.DataFrame]
    gate: Gate
    facts: dict[str, Any]


def screen_tissue(
    tissue: Tissue,
    scorer: PairScorer,
    model: ModelFacts,
    request: ScreenRequest,
    cancel: Cancel = never,
) -> Screened:
    """Screen one tissue and compute p-values whatever the gate says.

    Raises
    ------
    SpatialFormerError
        If the tissue cannot be screened.
    Cancelled
        If the user cancels.
    """
    targets, tissues = on_targets([tissue], model, request)
    plan = make_plan(tissues, request)
    mode = choose_mode(plan, request, model)
    gate = measure_gate(scorer, plan.slides, request, cancel)
    work = make_work(plan, scorer, model, request, targets, cancel=cancel)
    cost = cost_of(plan, request, mode, model.architecture)
    found = carry_out(work, cost, mode, request, cancel=cancel)
    tables = {
        name: build_table(tally, targets.names, with_p=True, co_occurs=None, in_sample=None)
        for name, tally in found.tallies.each.items()
    }
    facts = {
        "units": len(plan.unit_names),
        "near": len(plan.near),
        "far": len(plan.far.pairs),
        "far_source": plan.far.source,
        "tested": len(plan.index),
        "recall": found.facts.get("recall") or None,
    }
    return Screened(tables, gate, facts)


def is_related(left: str, right: str) -> bool:
    """Return whether contact does decide both genes: locks with keys, and contact genes."""
    return left in (*LOCKS, *_TOUCHED[planted.MACROPHAGE]) and right in (
        *KEYS,
        *_TOUCHED[planted.T_CELL],
    )


def read_planted(table: pd.DataFrame) -> dict[str, Any]:
    """Return what a table says of planted pairs, decoys and everything else.

    The place of a pair is by the size of epsilon, 1 being the first; ``place_by_p`` is by the p of
    the interaction.
    """
    by_p = table["epsilon_p"].rank(method="first")
    ordered = table.assign(by_p=by_p).iloc[np.argsort(-table["epsilon"].abs(), kind="stable")]
    ordered = ordered.reset_index(drop=True)
    pairs = list(zip(ordered["gene_left"], ordered["gene_right"], strict=True))
    unrelated = np.array([not is_related(*pair) for pair in pairs])
    called = (ordered["epsilon_q"] < ALPHA).to_numpy()
    place = {pair: k for k, pair in enumerate(pairs)}
    found: dict[str, Any] = {"tested": len(table), "pairs": {}, "decoys": {}}
    for pair in LINKED:
        k = place.get(pair)
        row = None if k is None else ordered.iloc[k]
        found["pairs"]["-".join(pair)] = row is not None and {
            "place": int(k or 0) + 1,
            "place_by_p": int(row["by_p"]),
            "epsilon": float(row["epsilon"]),
            "d": float(row["d_diff"]),
            "epsilon_q": float(row["epsilon_q"]),
            "found": bool(row["epsilon_q"] < ALPHA and row["epsilon"] > 0),
        }
    kinds = [decoy_kind(*pair) for pair in pairs]
    for name in (EXPRESSION, ZONE, SPILLOVER):
        mine = np.array([kind == name for kind in kinds])
        found["decoys"][name] = {
            "tested": int(mine.sum()),
            "called": int((mine & called).sum()),
            "called_by_d": int((mine & (ordered["q"] < ALPHA)).sum()),
        }
    found["called"] = int(called.sum())
    found["false"] = int((called & unrelated).sum())
    found["called_by_d"] = int((ordered["q"] < ALPHA).sum())
    return found


def read_null(table: pd.DataFrame) -> dict[str, Any]:
    """Return what a table rejects: share of p < .05, and whether any q is below .05."""
    found: dict[str, Any] = {}
    for name, p, q in (("effect", "p", "q"), ("interaction", "epsilon_p", "epsilon_q")):
        known = table[p].dropna()
        found[name] = {
            "rejected": float((known < ALPHA).mean()) if len(known) else None,
            "any_q": bool((table[q] < ALPHA).any()),
        }
    return found


def run_suite(
    scorers: Sequence[tuple[PairScorer, ModelFacts]],
    vocabulary: Vocabulary,
    settings: ScreenSuiteSettings,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> list[dict[str, Any]]:
    """Return what every scorer finds on every tissue, one record each.

    Raises
    ------
    SpatialFormerError
        If a tissue cannot be screened.
    Cancelled
        If the user cancels.
    """
    todo: list[tuple[TissueKind, int]] = [
        ("planted", _FIRST_SEED + k) for k in range(settings.seeds)
    ]
    todo += [("dealt", _FIRST_NULL_SEED + k) for k in range(settings.nulls)]
    todo += [("unplanted", _FIRST_NULL_SEED + k) for k in range(settings.unplanted)]
    records = []
    for number, (kind, seed) in enumerate(todo):
        check(cancel)
        progress(number, len(todo), f"Tissue {number + 1} of {len(todo)}: {kind}")
        tissue = make_tissue(kind, seed, settings.size, vocabulary, cancel)
        for scorer, model in scorers:
            found = screen_tissue(tissue, scorer, model, settings.request(kind, seed), cancel)
            records += _records(found, (kind, seed, model.name))
    progress(1.0, 1.0, "Done")
    return records


def _records(found: Screened, about: tuple[TissueKind, int, str]) -> list[dict[str, Any]]:
    kind, seed, name = about
    read = read_planted if kind == "planted" else read_null
    return [
        {
            "kind": kind,
            "seed": seed,
            "method": name if effects == "raw" else f"{name}_{effects}",
            "gate": {"auroc": found.gate.auroc, "open": found.gate.open},
            **found.facts,
            **read(table),
        }
        for effects, table in found.tables.items()
    ]
