"""Knock-out screens against the published way, and the fast ways against the exact one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, CellTokens, DoubleArray, LongArray
from spatialformer_core.bench.model import META, PRESET, random_cells
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, against, bounded
from spatialformer_core.bench.timing import best_of, cpu_seconds, one_thread, timed
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation.engine import (
    Effects,
    EncodedPair,
    Knocking,
    effects_of,
    encoded_pairs,
    exact_logits,
)
from spatialformer_core.perturbation.evaluator import Evaluator
from spatialformer_core.perturbation.screened import approximate

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer
    from spatialformer_core.model import SpatialFormer
    from spatialformer_core.model.config import Architecture, Preset
    from spatialformer_core.vocabulary import Vocabulary

EXACT_LIMIT, TOWER_LIMIT, SCREENED_LIMIT, RECALL_LIMIT = 15.0, 50.0, 6.0, 0.99
CANDIDATES, TOP = 300, 100
CHECKPOINT = "pancreas-cross-encoder"
"""Shipped; its recall is what users get."""

_PUBLISHED_TOKENS, _SMALL_TOKENS = 6_065, 386
_GENES = 67
_ROWS_TIMED = 3
_AGREE = 1e-4


def exact(options: BenchOptions) -> list[Row]:
    """Time exact knock-outs by the published network against length 500, batch 8, eager."""
    from spatialformer_core.bench import eager

    n_blocks = max(1, options.scaled(10))
    n = max(eager.BATCH, options.scaled(4 * eager.BATCH))
    model = _network("cross-encoder", PRESET, n_blocks, options.seed)
    scorer, pair = _knocked(model)
    left, right = pair.left.rows[1:2], pair.right.rows[1 : 1 + n]
    evaluator = Evaluator(scorer)
    tokens = [_tokens(pair, np.full(eager.BATCH, left[0])), _tokens(pair, right[: eager.BATCH])]

    def ours() -> DoubleArray:
        return evaluator.grid(pair.encoded, left, right)

    with one_thread():
        there = eager.pair_logits(model, *tokens)
        one_order = cpu_seconds(lambda: eager.pair_logits(model, *tokens)) / eager.BATCH
        back = eager.pair_logits(model, *tokens[::-1])
        if np.abs((there + back) / 2 - ours()[0, : eager.BATCH]).max() > _AGREE:
            raise _disagree()
        mine = best_of(ours, options.rounds) / n
    what = (
        f"network of {n_blocks} blocks and 64 heads, padded to {eager.PADDED}, batch of "
        f"{eager.BATCH}, eager"
    )
    return [
        _compared("exact", (mine, 2 * one_order), f"{what}, both orders of the cells", EXACT_LIMIT),
        _compared(
            "exact_one_order",
            (mine, one_order),
            f"{what}, one order only, as published (ours: the mean of both)",
            None,
        ),
    ]


def exact_two_tower(options: BenchOptions) -> list[Row]:
    """Time all knock-outs of a cell pair by two towers and by a cross-encoder of their width."""
    towers, of_towers = _knocked(_network("two-tower", "small", None, options.seed))
    cross, of_cross = _knocked(_network("cross-encoder", "small", None, options.seed))
    cells = random_cells(2, _GENES, _SMALL_TOKENS, options.seed)
    with one_thread():
        mine = best_of(lambda: _all_effects(towers, cells), options.rounds)
        rows = max(1, options.scaled(_ROWS_TIMED))
        evaluator = Evaluator(cross)
        chosen = of_cross.left.rows[1 : 1 + rows]

        def some() -> DoubleArray:
            return evaluator.grid(of_cross.encoded, chosen, of_cross.right.rows)

        theirs = best_of(some, options.rounds) / rows * of_cross.left.n_versions
    what = f"our cross-encoder of the same width, {rows} of {of_cross.left.n_versions} rows timed"
    unit = f"CPU-s per cell pair of {of_towers.left.n_versions - 1} x {_GENES} genes"
    return [_compared("exact_two_tower", (mine, theirs), what, TOWER_LIMIT, unit)]


def screened(options: BenchOptions) -> list[Row]:
    """Time proposals with their exact evaluation against the exact way; measure recall."""
    from spatialformer_core.inference import make_scorer
    from spatialformer_core.model import load_checkpoint
    from spatialformer_core.service.checkpoints import checkpoint_folder

    loaded = load_checkpoint(checkpoint_folder(files.home(), CHECKPOINT))
    scorer = make_scorer(loaded)
    n_pairs = max(1, options.scaled(6))
    rng = np.random.default_rng(options.seed)
    if options.slide is None:
        longest = max(8, options.scaled(_GENES))
        cells = random_cells(2 * n_pairs, longest, loaded.model.config.n_tokens, options.seed)
        source = "made-up cells"
    else:
        cells = near_cells(options.slide, loaded.vocabulary, n_pairs, rng)
        source = f"near pairs of {options.slide.name}"
    times, recalls, evaluations = [], [], []
    with one_thread():
        for k in range(n_pairs):
            two = cells.take(np.array([2 * k, 2 * k + 1]))
            found = _screen_both(scorer, two)
            times.append(found[0])
            evaluations.append(found[1])
            recalls.append(found[2])
    mine, theirs = np.sum(times, axis=0)
    d, epsilon = np.mean(recalls, axis=0)
    what = f"our exact way, {CHECKPOINT}, {n_pairs} {source}"
    few, all_ = np.sum(evaluations, axis=0)
    return [
        _compared(
            "screened",
            (mine / n_pairs, theirs / n_pairs),
            what,
            SCREENED_LIMIT,
            "CPU-s per cell pair",
        ),
        _compared("screened_evaluations", (float(few), float(all_)), what, None, "evaluations"),
        _recall("d", d, n_pairs),
        _recall("epsilon", epsilon, n_pairs),
    ]


def _recall(name: str, value: float, n_pairs: int) -> Row:
    unit = f"of the strongest {TOP} within {CANDIDATES}, {n_pairs} cell pairs"
    return bounded("screen", f"screened_recall_{name}", value, unit, at_least=RECALL_LIMIT)


def _screen_both(
    scorer: PairScorer, cells: CellTokens
) -> tuple[tuple[float, float], tuple[int, int], tuple[float, float]]:
    """Return CPU times, evaluations (screened, exact) and recall of d and of epsilon."""
    true, whole = timed(lambda: _all_effects(scorer, cells))
    (effects, known, evaluations), fast = timed(lambda: propose_and_evaluate(scorer, cells))
    wrong = np.abs(effects.d_pair - true.d_pair)[known].max(initial=0.0)
    if wrong > _AGREE:
        raise _disagree()
    top = max(1, min(TOP, true.d_pair.size // 10))
    recall = tuple(
        float(known.ravel()[np.argsort(-np.abs(values), axis=None)[:top]].mean())
        for values in (true.d_pair, true.interaction)
    )
    size = (len(true.left) + 1) * (len(true.right) + 1)
    return (fast, whole), (evaluations, size), (recall[0], recall[1])


def _all_effects(scorer: PairScorer, cells: CellTokens) -> Effects:
    evaluator = Evaluator(scorer)
    pair = _encoded(evaluator, cells)
    return effects_of(pair, exact_logits(evaluator, pair))


def propose_and_evaluate(scorer: PairScorer, cells: CellTokens) -> tuple[Effects, BoolArray, int]:
    """Approximate a cell pair and evaluate its candidates, the strongest by d and by epsilon.

    Returns
    -------
    Effects, array, int
        The effects, which of them are exact, and evaluations of the network (both orders).
    """
    evaluator = Evaluator(scorer)
    pair = _encoded(evaluator, cells)
    found = approximate(evaluator, pair)
    effects = effects_of(pair, found.logits)
    orders = [
        np.argsort(-np.abs(values), axis=None, kind="stable")
        for values in (effects.d_pair, effects.interaction)
    ]
    merged = np.column_stack(orders).ravel()
    _, first = np.unique(merged, return_index=True)
    chosen = merged[np.sort(first)][: min(CANDIDATES, max(1, effects.d_pair.size * 3 // 10))]
    known = found.known[1:, 1:].copy()
    new = chosen[~known.ravel()[chosen]]
    row, column = np.unravel_index(new, known.shape)
    rows, columns = pair.left.rows[1 + row], pair.right.rows[1 + column]
    logits = found.logits.copy()
    logits[1 + row, 1 + column] = evaluator.score(pair.encoded, rows, columns)
    known[row, column] = True
    return effects_of(pair, logits), known, evaluator.evaluations


def near_cells(
    slide: Path, vocabulary: Vocabulary, n_pairs: int, rng: np.random.Generator
) -> CellTokens:
    """Return near pairs (30 um) of cells of 60 to 72 genes of a real slide, row after row."""
    from scipy.spatial import cKDTree

    from spatialformer_core.io import read_source
    from spatialformer_core.vocabulary import tokenise

    table = read_source(slide).cells
    ids = vocabulary.gene_ids(table.genes)
    cells, _ = tokenise(table.counts, ids, vocabulary, np.array(META, np.int32))
    long = np.flatnonzero((cells.lengths >= 60) & (cells.lengths <= 72))
    pairs = cKDTree(np.asarray(table.xy_um)[long]).query_pairs(30.0, output_type="ndarray")
    if len(pairs) < n_pairs:
        raise SpatialFormerError(
            f"The slide holds {len(pairs)} near pairs of cells with 60 to 72 known genes; "
            f"{n_pairs} are needed.",
            where=slide.name,
        )
    return cells.take(long[rng.permutation(pairs)[:n_pairs].ravel()])


def _network(
    architecture: Architecture, preset: Preset, n_blocks: int | None, seed: int
) -> SpatialFormer:
    from spatialformer_core.model import build, preset_config

    changes = {} if n_blocks is None else {"n_blocks": n_blocks}
    n_tokens = _PUBLISHED_TOKENS if preset == PRESET else _SMALL_TOKENS
    return build(preset_config(architecture, preset, n_tokens, **changes), seed=seed).eval()


def _knocked(model: SpatialFormer) -> tuple[PairScorer, EncodedPair]:
    from spatialformer_core.inference import scorer_of

    scorer = scorer_of(model, "bench")
    cells = random_cells(2, _GENES, model.config.n_tokens, seed=0)
    return scorer, _encoded(Evaluator(scorer), cells)


def _encoded(evaluator: Evaluator, cells: CellTokens) -> EncodedPair:
    one, other = np.array([0]), np.array([1])
    return next(encoded_pairs(evaluator, cells, one, other, Knocking()))


def _tokens(pair: EncodedPair, rows: LongArray) -> CellTokens:
    ((_, encoded),) = pair.encoded.take(rows)
    tokens: CellTokens = encoded.cells  # type: ignore[attr-defined]
    return tokens


def _compared(
    name: str,
    times: tuple[float, float],
    what: str,
    limit: float | None,
    unit: str = "CPU-s per knock-out",
) -> Row:
    return against("screen", name, times, reference_is=what, limit=limit, unit=unit)


def _disagree() -> SpatialFormerError:
    return SpatialFormerError(
        "Ours and the reference disagree on a logit; a time would compare nothing.", where="bench"
    )
