"""Preparing an AnnData: quality control, tokens, co-occurrence, neighbours.

Thin faces over the kernels: check, hand over plain arrays, write keys. They work on any AnnData
with raw counts, whoever made it. With ``copy=False`` (the default) keys are written into the
object and nothing is returned; with ``copy=True`` a changed copy is returned.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spatialformer_core import keys
from spatialformer_core.arrays import DoubleArray, IntArray, LongArray
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.keys import Obs, Obsm, Obsp, Uns
from spatialformer_core.vocabulary import Vocabulary

_COLUMNS = (
    ("cell_id",),
    ("feature_name", "gene"),
    ("x_location", "x"),
    ("y_location", "y"),
)
_DEPTH, _QUALITY = ("z_location", "z"), ("qv",)


def filter_slide(
    adata: Any,
    *,
    qc: QcThresholds | None = None,
    layer: str | None = None,
    subset: bool = False,
    copy: bool = False,
) -> Any:
    """Mark the cells that are analysed (paper section 4.1).

    Parameters
    ----------
    adata
        Cells with raw counts.
    qc
        Thresholds; by default 30 transcripts and 10 genes.
    layer
        Layer of the counts; None takes ``X``.
    subset
        Remove the other cells. By default they stay, marked: they count for density.
    copy
        Return a changed copy.

    Returns
    -------
    anndata.AnnData or None
        Keys: ``obs["n_transcripts"]``, ``obs["n_genes"]``, ``obs["passes_qc"]``.

    Raises
    ------
    SpatialFormerError
        If the values are no counts or names repeat.
    """
    from spatialformer_core.slides.thresholds import passing_cells

    limits = qc or QcThresholds()
    data = adata.copy() if copy else adata
    counts = keys.counts_of(data, layer)
    n_transcripts = np.asarray(counts.sum(1)).ravel().astype(np.int64)
    n_genes = np.asarray((counts > 0).sum(1)).ravel().astype(np.int64)
    passes = passing_cells(n_transcripts, n_genes, limits)
    data.obs[Obs.TRANSCRIPTS], data.obs[Obs.GENES] = n_transcripts, n_genes
    data.obs[Obs.PASSES_QC] = passes
    keys.remember(
        data,
        Uns.QC,
        {"min_transcripts": limits.min_transcripts, "min_genes": limits.min_genes},
    )
    if subset:
        data._inplace_subset_obs(passes)
    return data if copy else None


def tokenize(
    adata: Any,
    vocabulary: Vocabulary,
    sample: SampleMetadata,
    *,
    layer: str | None = None,
    max_genes: int | None = None,
    copy: bool = False,
) -> Any:
    """Rank each cell's genes by median-scaled expression (paper section 4.2).

    Parameters
    ----------
    adata
        Cells with raw counts.
    vocabulary
        Tokens and medians.
    sample
        What the cells are; becomes the meta tokens.
    layer
        Layer of the counts; None takes ``X``.
    max_genes
        Keep the highest-ranked genes of each cell only.
    copy
        Return a changed copy.

    Returns
    -------
    anndata.AnnData or None
        Keys: ``obsm["spatialformer_tokens"]``, CSR of int32, cells x tokens of the vocabulary: the
        rank of each gene token, 1 for the highest; ``uns["spatialformer"]["tokens"]``: the meta
        tokens, the vocabulary's fingerprint, and what the vocabulary lacks.

    Raises
    ------
    SpatialFormerError
        If the values are no counts, names repeat, or the vocabulary knows none of the genes.
    """
    from spatialformer_core.vocabulary import tokenise

    data = adata.copy() if copy else adata
    ids = vocabulary.gene_ids([str(name) for name in data.var_names])
    if not (ids >= 0).any():
        raise SpatialFormerError(
            "The vocabulary knows none of the genes.",
            where="adata.var_names",
            fix="Give gene symbols as variable names, or another vocabulary.",
        )
    meta = vocabulary.meta_ids(sample)
    cells, report = tokenise(keys.counts_of(data, layer), ids, vocabulary, meta, max_genes)
    rank = np.arange(len(cells.tokens)) - np.repeat(cells.indptr[:-1], cells.lengths) + 1
    ranks = sparse.csr_matrix(
        (rank.astype(np.int32), cells.tokens, cells.indptr), shape=(data.n_obs, len(vocabulary))
    )
    ranks.sort_indices()
    data.obsm[Obsm.TOKENS] = ranks
    keys.remember(
        data,
        Uns.TOKENS,
        {
            "vocabulary": vocabulary.fingerprint,
            "meta": meta,
            "unknown_genes": np.array(data.var_names[report.unknown_columns], dtype=object),
            "unknown_counts": report.unknown_counts,
            "empty_cells": report.empty_cells,
        },
    )
    return data if copy else None


def cell_pairs(adata: Any, *, radius_um: float = 30.0, copy: bool = False) -> Any:
    """Link every two cells whose centres lie at most ``radius_um`` apart.

    Parameters
    ----------
    adata
        Cells with coordinates in um (``obsm["spatial"]``). Cells that fail quality control
        (``obs["passes_qc"]``) have no neighbours.
    radius_um
        Largest distance of neighbours.
    copy
        Return a changed copy.

    Returns
    -------
    anndata.AnnData or None
        Key: ``obsp["spatialformer_neighbors"]``, symmetric CSR of bool.

    Raises
    ------
    SpatialFormerError
        If there are no finite coordinates.
    """
    from spatialformer_core.cell_graph import radius_graph

    data = adata.copy() if copy else adata
    passes = keys.passing_of(data)
    graph = radius_graph(keys.coordinates_of(data), radius_um, cells=passes)
    ones = np.ones(len(graph.indices), np.bool_)
    data.obsp[Obsp.NEIGHBORS] = sparse.csr_matrix(
        (ones, graph.indices, graph.indptr), shape=(data.n_obs, data.n_obs)
    )
    keys.remember(data, Uns.NEIGHBORS, {"radius_um": float(radius_um)})
    return data if copy else None


def cooccurrence(
    adata: Any,
    transcripts: Any,
    *,
    radius_um: float = 5.0,
    min_copies: int = 3,
    dims: Literal[2, 3] = 2,
    min_qv: float = 20.0,
    copy: bool = False,
) -> Any:
    """Find which gene pairs sit together inside each cell (paper section 4.3).

    Parameters
    ----------
    adata
        The cells; a cell is named by ``obs["cell_id"]`` or, without, by its index.
    transcripts
        Table (pandas or dask) with the columns ``cell_id``, ``feature_name`` (or ``gene``),
        ``x_location`` and ``y_location`` (or ``x``, ``y``) in um, and where there are,
        ``z_location`` (``z``) and ``qv``. Transcripts of other cells and genes are left out.
    radius_um, min_copies, dims
        As in `cooccurrence.cooccurring_pairs`.
    min_qv
        Lowest quality of a transcript, where the table has one.
    copy
        Return a changed copy.

    Returns
    -------
    anndata.AnnData or None
        Keys: ``obsm["spatialformer_cooccurrence"]``, CSR of bool, cells x pairs;
        ``uns["spatialformer"]["cooccurrence"]``: names of the pairs (``GENEA|GENEB``) and settings.

    Raises
    ------
    SpatialFormerError
        If a column is missing, names repeat, a position is not finite, or no transcript is left.
    """
    from spatialformer_core.cooccurrence import cooccurring_pairs, pair_matrix

    data = adata.copy() if copy else adata
    genes = [str(name) for name in data.var_names]
    xyz_um, gene, indptr = _transcripts(data, transcripts, dims, min_qv)
    pairs = cooccurring_pairs(
        xyz_um,
        gene,
        indptr,
        n_genes=len(genes),
        radius_um=radius_um,
        min_copies=min_copies,
        dims=dims,
    )
    matrix = pair_matrix(pairs, genes)
    data.obsm[Obsm.COOCCURRENCE] = matrix.presence
    settings = {"radius_um": float(radius_um), "min_copies": int(min_copies), "dims": int(dims)}
    settings |= {"min_qv": float(min_qv)}
    names = np.array(matrix.names, dtype=object)
    keys.remember(data, Uns.COOCCURRENCE, {"pairs": names, **settings})
    return data if copy else None


def _transcripts(
    adata: Any, transcripts: Any, dims: int, min_qv: float
) -> tuple[DoubleArray, IntArray, LongArray]:
    """Return the transcripts of known cells and genes, grouped by cell."""
    import pandas as pd

    if not adata.var_names.is_unique:
        raise SpatialFormerError(
            "A gene name is there twice.", "adata.var_names", "adata.var_names_make_unique()"
        )
    table = transcripts.compute() if hasattr(transcripts, "compute") else transcripts
    found = [_column(table, names) for names in _COLUMNS]
    found += [_column(table, _DEPTH)] if dims == 3 else []
    own = adata.obs.get(Obs.CELL_ID, adata.obs_names)
    cell_index = pd.Index(np.asarray(own).astype(str))
    if not cell_index.is_unique:
        raise SpatialFormerError("A cell name is there twice.", where="adata.obs")
    cell = _positions(table[found[0]], cell_index)
    gene = _positions(table[found[1]], adata.var_names.astype(str))
    known = (cell >= 0) & (gene >= 0) & keys.passing_of(adata)[cell]
    if _QUALITY[0] in table:
        known &= table[_QUALITY[0]].to_numpy() >= min_qv
    if not known.any():
        raise SpatialFormerError(
            "No transcript belongs to a cell and a gene of the table.",
            where=f"{found[0]}, {found[1]}",
            fix="Cells are matched by obs['cell_id'] or the index, genes by var_names.",
        )
    kept = np.flatnonzero(known)
    kept = kept[np.argsort(cell[kept], kind="stable")]
    indptr = np.zeros(adata.n_obs + 1, np.int64)
    np.cumsum(np.bincount(cell[kept], minlength=adata.n_obs), out=indptr[1:])
    xyz_um = table[found[2:]].to_numpy(np.float64)[kept]
    return xyz_um, gene[kept].astype(np.int32), indptr


def _column(table: Any, names: tuple[str, ...]) -> str:
    for name in names:
        if name in table:
            return name
    raise SpatialFormerError(
        f"The transcripts have no column {' or '.join(names)}.",
        where=", ".join(str(name) for name in list(table.columns)[:20]),
    )


def _positions(column: Any, index: Any) -> NDArray[np.int64]:
    """Return the place of each value in an index, -1 where it is not there."""
    codes = column.astype("category").cat
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in codes.categories]
    place = np.append(index.get_indexer(names), -1)
    positions: NDArray[np.int64] = place[codes.codes.to_numpy()]
    return positions
