"""From a row of a screen's table to cells: near pairs that carry both genes, with transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.arrays import DoubleArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import ScreenRequest, read_result
from spatialformer_core.perturbation.examples import ExampleCell, ExamplePair
from spatialformer_core.service.checkpoints import find_checkpoint
from spatialformer_core.service.vocabularies import spelled_as
from spatialformer_core.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import Slide, SlideStore

__all__ = ["MAX_EXAMPLES", "ExampleCell", "ExamplePair", "example_pairs"]

MAX_EXAMPLES = 100
_Found = list[tuple[int, ExamplePair]]


def example_pairs(
    store: SlideStore, folder: Path, genes: tuple[str, str], n: int = 6
) -> list[ExamplePair]:
    """Return near cell pairs of a finished screen that carry both genes, most copies first.

    Parameters
    ----------
    store
        Holds the slides.
    folder
        A result of a screen.
    genes
        Left and right gene, as in a row of its table.
    n
        How many, at most `MAX_EXAMPLES`.

    Raises
    ------
    SpatialFormerError
        If the folder holds no screen, or a slide has been ingested anew since.
    """
    result = read_result(folder)
    if result.pairs is None:
        raise SpatialFormerError("This screen was made before cell pairs were kept.", folder.name)
    created = {entry["slide_id"]: entry["created"] for entry in result.info["slides"]}
    near = result.pairs[result.pairs["side"] == "near"]
    request = ScreenRequest(**result.info["request"])
    n = min(n, MAX_EXAMPLES)
    found: _Found = []
    for slide_id, rows in near.groupby("slide_id", observed=True):
        slide = store.open(str(slide_id))
        if slide.meta.created != created[slide.meta.slide_id]:
            raise SpatialFormerError(
                "The slide was ingested anew after the screen, so its cells are others.",
                where=slide.meta.slide_id,
                fix="Run the screen again.",
            )
        spelled = _spelled(store, slide, request, genes)
        if spelled is not None:
            found += _of_slide(slide, rows, spelled, n, both_ways=request.same_type)
    found.sort(key=lambda pair: (-pair[0], pair[1].slide_id, pair[1].left.row))
    return [pair for _, pair in found[:n]]


def _spelled(
    store: SlideStore, slide: Slide, request: ScreenRequest, genes: tuple[str, str]
) -> tuple[str, str] | None:
    """Return the genes as the slide spells them; None if it lacks one, or one is a gene set."""
    if set(genes) <= set(slide.genes):
        return genes
    try:
        folder = find_checkpoint(store.root.parent, request.checkpoint_id)
    except SpatialFormerError:
        # The checkpoint is gone, and with it what its genes are called elsewhere.
        return None
    mapping = spelled_as(slide, Vocabulary.load(folder / "vocabulary.json"))
    own = {mapping.names[k]: gene for gene, k in zip(slide.genes, mapping.column, strict=True)}
    return (own[genes[0]], own[genes[1]]) if set(genes) <= own.keys() else None


def _of_slide(
    slide: Slide, rows: pd.DataFrame, genes: tuple[str, str], n: int, *, both_ways: bool
) -> _Found:
    """Return a slide's best pairs with the lesser of their two copy numbers."""
    # A column at a time: the matrix of a large slide is not copied.
    left, right = (np.asarray(slide.gene_column(gene)) for gene in genes)
    one, other = (rows[f"cell_{side}"].to_numpy(np.int64) for side in ("left", "right"))
    unit = rows["unit"].astype(str).to_numpy()
    if both_ways:
        one, other = np.concatenate([one, other]), np.concatenate([other, one])
        unit = np.tile(unit, 2)
    copies: LongArray = np.minimum(left[one], right[other]).astype(np.int64)
    order = np.argsort(-copies, kind="stable")[:n]
    found = []
    for k in order[copies[order] > 0]:
        ends = [_cell(slide, int(cells[k]), genes) for cells in (one, other)]
        apart = float(np.hypot(*(ends[0].xy_um - ends[1].xy_um)))
        pair = ExamplePair(slide.meta.slide_id, str(unit[k]), ends[0], ends[1], apart)
        found.append((int(copies[k]), pair))
    return found


def _cell(slide: Slide, cell: int, genes: tuple[str, str]) -> ExampleCell:
    return ExampleCell(
        cell,
        str(slide.cell_ids[cell]),
        np.asarray(slide.xy_um[cell], np.float64),
        _outline(slide, cell),
        *(_transcripts(slide, cell, gene) for gene in genes),
    )


def _outline(slide: Slide, cell: int) -> DoubleArray | None:
    polygons = slide.polygons()
    if polygons is None:
        return None
    start, stop = polygons.indptr[cell : cell + 2]
    # A cell without an outline has an empty one.
    return np.asarray(polygons.xy_um[start:stop], np.float64) if stop > start else None


def _transcripts(slide: Slide, cell: int, gene: str) -> DoubleArray | None:
    if not slide.meta.has_transcripts:
        return None
    stored = slide.transcripts_by_cell()
    here = slice(int(stored.indptr[cell]), int(stored.indptr[cell + 1]))
    mine = np.flatnonzero(np.asarray(stored.gene[here]) == slide.genes.index(gene))
    places: DoubleArray = np.asarray(stored.xyz_um[here], np.float64)[mine]
    return places
