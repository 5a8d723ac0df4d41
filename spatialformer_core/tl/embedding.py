"""Embeddings of an AnnData at the level of cells, genes and pairs of cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from spatialformer_core import keys
from spatialformer_core.arrays import FloatArray, LongArray
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.keys import Obsm, Uns, Varm
from spatialformer_core.tl.inputs import ModelArguments, Shown, show

if TYPE_CHECKING:
    from spatialformer_core.inference import EmbedSettings
    from spatialformer_core.model import Checkpoint


def embed(
    adata: Any,
    checkpoint: Checkpoint | Path | str,
    *,
    level: Literal["cell", "gene", "pair"] = "cell",
    pairs: tuple[Sequence[Any], Sequence[Any]] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    copy: bool = False,
    **options: Unpack[ModelArguments],
) -> Any:
    """Embed cells, genes or pairs of cells (paper section 4.4).

    Parameters
    ----------
    adata
        Cells with raw counts, of any origin: no coordinates are needed.
    checkpoint
        From `model.load_checkpoint`, or its folder.
    level
        ``cell``: the CLS state of each cell. ``gene``: the mean last-layer state of each gene over
        the cells that express it. ``pair``: one vector per pair, the same for both orders.
    pairs
        For ``pair``: names of the left and of the right cells, or their row numbers.
    precision
        ``bfloat16`` computes faster on devices that have it, and coarser.
    copy
        Return a changed copy.
    **options
        See `tl.inputs.ModelArguments`: ``sample``, ``meta``, ``layer``, ``device``, ...

    Returns
    -------
    anndata.AnnData or None
        Keys by level: ``obsm["X_spatialformer"]``, ``(n, dim)``; ``varm["X_spatialformer"]``, NaN
        for genes that no cell expresses or the checkpoint does not know; or
        ``uns["spatialformer"]["pair_embedding"]`` with ``left``, ``right`` (names) and ``vectors``.
        ``uns["spatialformer"]["embedding"]`` says how.

    Raises
    ------
    SpatialFormerError
        If counts, genes, sample or pairs do not suffice.
    Cancelled
        If it was cancelled.
    """
    from spatialformer_core.inference import EmbedSettings, cls_states

    if level not in ("cell", "gene", "pair") or (level == "pair") != (pairs is not None):
        raise SpatialFormerError(
            f"Level {level!r} with{'out' if pairs is None else ''} pairs.",
            fix="Levels are cell, gene and pair; pairs are given for level 'pair' alone.",
        )
    data = adata.copy() if copy else adata
    shown = show(data, checkpoint, options)
    chosen = {"meta": shown.meta, "precision": precision}
    settings = validate(EmbedSettings, chosen, "embed")
    watch: Any = {"settings": settings, "progress": shown.progress, "cancel": shown.cancel}
    if level == "cell":
        states = cls_states(shown.checkpoint.model, shown.data.cells, **watch)
        data.obsm[Obsm.EMBEDDING] = shown.back(states)
    elif level == "gene":
        data.varm[Varm.EMBEDDING] = _genes(shown, settings)
    else:
        left, right = (_rows(data, side) for side in pairs or ((), ()))
        _remember_pairs(data, shown, (left, right), settings)
    keys.remember(data, Uns.EMBEDDING, {**shown.facts(), "level": level, "precision": precision})
    return data if copy else None


def _genes(shown: Shown, settings: EmbedSettings) -> FloatArray:
    """Return the mean state of each column's gene, NaN where there is none, ``(genes, dim)``."""
    from spatialformer_core.inference import gene_means

    found = gene_means(
        shown.checkpoint.model,
        shown.data.cells,
        settings=settings,
        progress=shown.progress,
        cancel=shown.cancel,
    )
    table = np.full((len(shown.checkpoint.vocabulary), found.mean.shape[1]), np.nan, np.float32)
    table[found.tokens] = found.mean
    columns = shown.data.token_of_column
    states: FloatArray = np.where((columns >= 0)[:, None], table[columns], np.float32("nan"))
    return states


def _remember_pairs(
    adata: Any, shown: Shown, rows: tuple[LongArray, LongArray], settings: EmbedSettings
) -> None:
    from spatialformer_core.inference import pair_states

    place = np.empty(len(shown.order), np.int64)
    place[shown.order] = np.arange(len(shown.order))
    left, right = rows
    if len(left) != len(right):
        raise SpatialFormerError(f"{len(left):,} left and {len(right):,} right cells are no pairs.")
    cells = shown.data.cells
    vectors = pair_states(
        shown.checkpoint.model,
        cells.take(place[left]),
        cells.take(place[right]),
        settings=settings,
        progress=shown.progress,
        cancel=shown.cancel,
    )
    names = np.asarray(adata.obs_names, dtype=object)
    entry = {"left": names[left], "right": names[right], "vectors": vectors}
    keys.remember(adata, Uns.PAIR_EMBEDDING, entry)


def _rows(adata: Any, cells: Sequence[Any]) -> LongArray:
    """Return row numbers of cells given by name or by number."""
    given = np.asarray(cells)
    if given.dtype.kind in "iu":
        rows = given.astype(np.int64)
    else:
        rows = np.asarray(adata.obs_names.get_indexer(given.astype(str)), np.int64)
    bad = np.flatnonzero((rows < 0) | (rows >= adata.n_obs))
    if len(bad):
        raise SpatialFormerError(
            f"There is no cell {str(given[bad[0]])[:60]!r}.",
            where="pairs",
            fix="Name cells as adata.obs_names does, or by row number.",
        )
    return rows
