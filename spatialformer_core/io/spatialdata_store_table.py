"""The table of a SpatialData store: cells, raw counts, groups, centres."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core.arrays import BoolArray, DoubleArray, FloatArray
from spatialformer_core.config import SampleMetadata
from spatialformer_core.io.checks import check_panel, is_control, without_missing
from spatialformer_core.io.h5ad import AREA_COLUMNS, COUNTS_FIX
from spatialformer_core.io.hdf5 import MAX_CATEGORIES, MAX_TEXT, NotCountsError, as_counts
from spatialformer_core.io.records import Csr, Groups, Names
from spatialformer_core.io.spatialdata_store_parts import Chosen
from spatialformer_core.keys import Obs, Obsm


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was read.

    Attributes
    ----------
    instance_key
        Column that names the cell, also in points and shapes.
    counts
        Cells x genes, controls left out; None where the table lost the names of its genes.
    xy
        Stated centres in whatever unit, shape ``(n, 2)``, None where there are none.
    """

    ids: Names
    instance_key: str | None
    counts: Csr | None
    genes: tuple[str, ...]
    control_names: tuple[str, ...]
    n_control_counts: int
    gene_ids: tuple[str, ...] | None
    xy: DoubleArray | None
    area_um2: FloatArray | None
    groups: dict[str, Groups]


def read_table(store: Any, chosen: Chosen, where: str) -> Table | None:
    """Read the chosen table; None where there is none.

    Raises
    ------
    SpatialFormerError
        If it holds no raw counts, or its genes are none or repeated.
    """
    if chosen.table is None:
        return None
    table = store.tables[chosen.table]
    where = f"{where}/tables/{chosen.table}"
    stated = table.uns.get("spatialdata_attrs") or {}
    instance = stated.get("instance_key")
    named = instance in table.obs
    ids = np.array([str(v) for v in (table.obs[instance] if named else table.obs_names)], np.str_)
    skipped = {stated.get("region_key"), instance}
    if "spatialformer" in (store.attrs or {}):
        # What ingest wrote of itself is metadata of the slide, no grouping of its cells.
        skipped |= {*SampleMetadata.model_fields, Obs.PASSES_QC, Obs.REGION}
    matrix, var = _raw_counts(table, where)
    names = np.array([str(name) for name in var.index], np.str_)
    common = (
        _xy(table),
        _area(table.obs, len(ids)),
        _groups(table.obs, skipped),
    )
    if named_by_numbers(names):
        return Table(ids, instance, None, (), (), 0, None, *common)
    gene = _gene_mask(var, names)
    check_panel(names.tolist(), gene, where)
    return Table(
        ids,
        instance,
        matrix[:, gene],
        tuple(names[gene].tolist()),
        tuple(names[~gene].tolist()),
        int(matrix[:, ~gene].sum()),
        _gene_ids(var, gene),
        *common,
    )


def named_by_numbers(names: Names) -> bool:
    """Tell whether a table lost the names of its genes: they are row numbers, or there are none."""
    return all(name.isdigit() for name in names)


def _raw_counts(table: Any, where: str) -> tuple[Csr, Any]:
    from scipy import sparse

    candidates = [(table.X, table.var), (table.layers.get("counts"), table.var)]
    if table.raw is not None:
        candidates.append((table.raw.X, table.raw.var))
    refusal = None
    for values, var in candidates:
        if values is None:
            continue
        matrix = sparse.csr_matrix(values)
        try:
            matrix.data = as_counts(matrix.data, Path(where))
        except NotCountsError as error:
            refusal = refusal or error
            continue
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix, var
    if refusal is not None:
        raise NotCountsError(refusal.message, where=where, fix=COUNTS_FIX)
    return sparse.csr_matrix((table.n_obs, 0), dtype=np.int32), table.var.iloc[:0]


def _gene_mask(var: Any, names: Names) -> BoolArray:
    if "is_gene" in var and var["is_gene"].dtype == bool:
        flagged: BoolArray = var["is_gene"].to_numpy()
        return flagged
    if "feature_types" in var:
        typed: BoolArray = (var["feature_types"].astype(str) == "Gene Expression").to_numpy()
        return typed
    return np.array([not is_control(name) for name in names], np.bool_)


def _gene_ids(var: Any, gene: BoolArray) -> tuple[str, ...] | None:
    if "gene_ids" not in var:
        return None
    return tuple(str(value) for value in var["gene_ids"][gene])


def _xy(table: Any) -> DoubleArray | None:
    found = table.obsm.get(Obsm.SPATIAL)
    if found is None or np.ndim(found) != 2 or np.shape(found)[1] < 2:
        return None
    return np.ascontiguousarray(np.asarray(found, np.float64)[:, :2])


def _area(obs: Any, n_cells: int) -> FloatArray | None:
    name = next((name for name in AREA_COLUMNS if name in obs), None)
    if name is None or obs[name].dtype.kind not in "fiu":
        return None
    area: FloatArray = obs[name].to_numpy(np.float32)
    return area if area.shape == (n_cells,) else None


def _groups(obs: Any, skipped: set[str | None]) -> dict[str, Groups]:
    import pandas as pd

    groups = {}
    for name in obs.columns:
        column = obs[name]
        if name in skipped or not (
            isinstance(column.dtype, pd.CategoricalDtype)
            or pd.api.types.is_bool_dtype(column)
            or pd.api.types.is_string_dtype(column)
        ):
            continue
        values = column.cat if isinstance(column.dtype, pd.CategoricalDtype) else None
        if values is None:
            values = pd.Categorical(column.astype(str))
        categories = tuple(str(category) for category in values.categories)
        too_long = any(len(category) > MAX_TEXT for category in categories)
        if not categories or len(categories) > MAX_CATEGORIES or too_long:
            continue
        codes = np.asarray(values.codes, np.int16)
        groups[str(name)] = without_missing(Groups(categories, codes))
    return groups
