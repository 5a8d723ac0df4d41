"""Every key that this package reads from or writes to an AnnData or SpatialData object.

And the checks of what lies under them, shared by the scverse faces.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.errors import SpatialFormerError


class Obs:
    """Columns of ``adata.obs``."""

    CELL_ID = "cell_id"
    PASSES_QC = "passes_qc"
    TRANSCRIPTS = "n_transcripts"
    GENES = "n_genes"
    AREA_UM2 = "cell_area_um2"
    REGION = "region"


class Var:
    """Columns of ``adata.var``."""

    GENE_IDS = "gene_ids"


class Varm:
    """Arrays of ``adata.varm``."""

    EMBEDDING = "X_spatialformer"


class Obsm:
    """Arrays of ``adata.obsm``."""

    SPATIAL = "spatial"
    EMBEDDING = "X_spatialformer"
    COOCCURRENCE = "spatialformer_cooccurrence"
    TOKENS = "spatialformer_tokens"


class Obsp:
    """Matrices of ``adata.obsp``."""

    NEIGHBORS = "spatialformer_neighbors"


class Uns:
    """Entries of ``adata.uns``."""

    SPATIALFORMER = "spatialformer"
    COLOCALISATION = "colocalisation"
    COOCCURRENCE = "cooccurrence"
    EMBEDDING = "embedding"
    GENE_PAIRS = "gene_pairs"
    NEIGHBORS = "neighbors"
    PAIR_EMBEDDING = "pair_embedding"
    QC = "qc"
    TOKENS = "tokens"


class Elements:
    """Names of the SpatialData elements in a slide's ``slide.zarr``."""

    TABLE = "table"
    TRANSCRIPTS = "transcripts"
    CELL_BOUNDARIES = "cell_boundaries"
    NUCLEUS_BOUNDARIES = "nucleus_boundaries"
    CELL_CENTROIDS = "cell_centroids"


def counts_of(adata: Any, layer: str | None = None) -> Any:
    """Return the raw counts of an AnnData, CSR, cells x genes.

    Parameters
    ----------
    adata
        The object.
    layer
        Name of a layer; None takes ``X``.

    Raises
    ------
    SpatialFormerError
        If there is no such layer, a gene or cell name repeats, or a value is no count.
    """
    from scipy import sparse

    if layer is not None and layer not in adata.layers:
        raise SpatialFormerError(f"There is no layer {layer[:60]!r}.", where="adata.layers")
    matrix = adata.X if layer is None else adata.layers[layer]
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    if matrix is None:
        raise SpatialFormerError("There are no counts.", where=where)
    for names, what in ((adata.var_names, "var"), (adata.obs_names, "obs")):
        if not names.is_unique:
            repeated = str(names[names.duplicated()][0])
            raise SpatialFormerError(
                f"The name {repeated[:60]!r} is there twice.",
                where=f"adata.{what}_names",
                fix=f"Make the names unique (adata.{what}_names_make_unique()).",
            )
    counts = sparse.csr_matrix(matrix)
    data = counts.data
    if not (np.isfinite(data).all() and (data >= 0).all() and (data == np.rint(data)).all()):
        raise SpatialFormerError(
            "The matrix holds values that are no counts (negative, fractional or not finite).",
            where=where,
            fix="Give the raw counts, not normalised or log-transformed values; counts kept in a "
            "layer are named with layer=.",
        )
    return counts


def coordinates_of(adata: Any) -> DoubleArray:
    """Return the centroids in um, shape ``(n, 2)``.

    Raises
    ------
    SpatialFormerError
        If there are none, or one is not finite.
    """
    if Obsm.SPATIAL not in adata.obsm:
        raise SpatialFormerError(
            "There are no coordinates.",
            where=f"adata.obsm[{Obsm.SPATIAL!r}]",
            fix="Give the centroids in micrometres, shape (cells, 2).",
        )
    xy_um = np.asarray(adata.obsm[Obsm.SPATIAL], np.float64)
    if xy_um.ndim != 2 or xy_um.shape[1] not in (2, 3) or not np.isfinite(xy_um).all():
        raise SpatialFormerError(
            f"Coordinates of shape {xy_um.shape}; finite ones of shape (cells, 2) are expected.",
            where=f"adata.obsm[{Obsm.SPATIAL!r}]",
        )
    return xy_um[:, :2]


def passing_of(adata: Any) -> BoolArray:
    """Return which cells pass quality control, all where that was not worked out, ``(n,)``."""
    if Obs.PASSES_QC not in adata.obs:
        return np.ones(adata.n_obs, np.bool_)
    return np.asarray(adata.obs[Obs.PASSES_QC], np.bool_)


def remember(adata: Any, name: str, values: dict[str, Any]) -> None:
    """Write one entry of ``uns["spatialformer"]`` and leave the others as they are."""
    from spatialformer_core import __version__

    entries = dict(adata.uns.get(Uns.SPATIALFORMER, {}))
    entries |= {"version": __version__, name: values}
    adata.uns[Uns.SPATIALFORMER] = entries


def recalled(adata: Any, name: str) -> dict[str, Any] | None:
    """Return one entry of ``uns["spatialformer"]``, None if it is not there."""
    entry = adata.uns.get(Uns.SPATIALFORMER, {}).get(name)
    return None if entry is None else dict(entry)
