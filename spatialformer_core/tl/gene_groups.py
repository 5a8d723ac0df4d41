"""Differential gene pairs of an AnnData: groups of cells compared, the tissue as replicate."""

from __future__ import annotations

import json
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import keys
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.gene_pairs.settings import GenePairArguments
from spatialformer_core.keys import Obsm, Uns
from spatialformer_core.tl.inputs import categories


def gene_pairs(
    adata: Any,
    groupby: str,
    *,
    donor_key: str | None = None,
    slide_key: str | None = None,
    layer: str | None = None,
    copy: bool = False,
    **settings: Unpack[GenePairArguments],
) -> Any:
    """Test which co-occurring gene pairs differ between groups of cells, the tissue as replicate.

    Parameters
    ----------
    adata
        Cells with raw counts and co-occurrence (``pp.cooccurrence``); cells that fail quality
        control (``obs["passes_qc"]``) are left out. With coordinates (``obsm["spatial"]``) blocks
        of tissue can be replicates.
    groupby
        Column of ``obs`` with the groups.
    donor_key, slide_key
        Columns of ``obs`` with donor and slide; without, all cells are of one.
    layer
        Layer of the counts; None takes ``X``.
    copy
        Return a changed copy.
    **settings
        See `gene_pairs.GenePairSettings`: ``groups``, ``unit``, ``n_pairs``, ...

    Returns
    -------
    anndata.AnnData or None
        Key: ``uns["spatialformer"]["gene_pairs"]`` with ``table`` (a DataFrame, one row per
        comparison and pair, `gene_pairs.COLUMNS`), ``verdict``, ``closeness_verdict`` and ``info``
        (JSON).

    Raises
    ------
    SpatialFormerError
        If co-occurrence, counts or groups are missing or do not suffice.
    """
    from spatialformer_core.gene_pairs import GenePairSettings, Grouping, compare_groups

    data = adata.copy() if copy else adata
    chosen = validate(GenePairSettings, dict(settings), "gene_pairs")
    measured = keys.recalled(data, Uns.COOCCURRENCE)
    if measured is None or Obsm.COOCCURRENCE not in data.obsm:
        raise SpatialFormerError(
            "Co-occurrence was not measured.",
            where=f"adata.obsm[{Obsm.COOCCURRENCE!r}]",
            fix="Call pp.cooccurrence(adata, transcripts) first.",
        )
    chosen = chosen.model_copy(update={"min_copies": int(measured["min_copies"])})
    names, codes = categories(data, groupby)
    passes = keys.passing_of(data)
    cells = _cells(data, (donor_key, slide_key), layer, measured).take(passes)
    result = compare_groups(cells, Grouping(groupby, names, codes[passes]), chosen)
    keys.remember(
        data,
        Uns.GENE_PAIRS,
        {
            "table": result.table,
            "verdict": result.info["verdict"],
            "closeness_verdict": result.info["closeness_verdict"],
            "info": json.dumps(result.info),
        },
    )
    return data if copy else None


def _cells(
    adata: Any, unit_keys: tuple[str | None, str | None], layer: str | None, measured: Any
) -> Any:
    from spatialformer_core.cooccurrence import named_matrix
    from spatialformer_core.gene_pairs import PairCells
    from spatialformer_core.stats import Placed

    donors, donor = _unit(adata, unit_keys[0], "donor")
    slides, slide = _unit(adata, unit_keys[1], "slide")
    both, own = np.unique(np.column_stack([slide, donor]), axis=0, return_inverse=True)
    own = own.ravel().astype(np.int64)
    genes = [str(name) for name in adata.var_names]
    names = [str(name) for name in measured["pairs"]]
    matrix = named_matrix(adata.obsm[Obsm.COOCCURRENCE], names, genes, own)
    counts = keys.counts_of(adata, layer)
    column = {gene: number for number, gene in enumerate(genes)}
    placed = Placed(
        slide=own,
        xy_um=keys.coordinates_of(adata) if Obsm.SPATIAL in adata.obsm else None,
        slides=tuple(slides[row[0]] for row in both),
        donors=tuple(donors[row[1]] for row in both),
    )
    depth = np.asarray(counts.sum(1), np.float64).ravel()
    return PairCells(matrix, counts[:, [column[gene] for gene in matrix.genes]], depth, placed)


def _unit(adata: Any, key: str | None, what: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if key is None:
        return (f"the {what}",), np.zeros(adata.n_obs, np.int64)
    names, codes = categories(adata, key)
    if (codes < 0).any():
        raise SpatialFormerError(
            f"{int((codes < 0).sum()):,} cells have no {what}.", where=f"adata.obs[{key!r}]"
        )
    return names, codes
