"""Which types a table of marker genes suggests for the groups of a slide."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.service.cell_types import TypesView

LEAST = 0.5
"""Standard deviations above the mean of all groups below which no type is suggested."""

_MAX_MARKER_ROWS = 20_000


def suggest_types(view: TypesView, text: str) -> tuple[pd.DataFrame, list[str]]:
    """Score the types of a marker table in every group.

    The score of a type is the mean, over its marker genes on the panel, of how many standard
    deviations the group's mean expression lies above the mean of all groups.

    Parameters
    ----------
    text
        CSV with the columns ``type`` and ``gene``, one marker per row.

    Returns
    -------
    table, unknown
        ``group suggestion score second score_second genes``, and genes that the panel lacks.

    Raises
    ------
    SpatialFormerError
        If a column is missing, the table is too long, or none of its genes is on the panel.
    """
    import pandas as pd

    wanted = _read_marker_table(text)
    profile = view.profile
    by_case = {gene.casefold(): gene for gene in profile.columns}
    known = {
        name: sorted({by_case[g.casefold()] for g in genes if g.casefold() in by_case})
        for name, genes in wanted.items()
    }
    unknown = sorted({g for genes in wanted.values() for g in genes if g.casefold() not in by_case})
    known = {name: genes for name, genes in known.items() if genes}
    if not known:
        raise SpatialFormerError(
            "None of the marker genes is on the panel.",
            fix="Use the gene symbols of the slide's panel.",
        )
    spread = profile.std(axis=0, ddof=0)
    z = (profile - profile.mean(axis=0)) / spread.where(spread > 0, 1.0)
    scores = pd.DataFrame({name: z[genes].mean(axis=1) for name, genes in known.items()})
    return _best(scores, known), unknown


def _best(scores: pd.DataFrame, known: dict[str, list[str]]) -> pd.DataFrame:
    import pandas as pd

    names = np.array(scores.columns, dtype=object)
    order = np.argsort(-scores.to_numpy(), axis=1, kind="stable")
    ranked = np.take_along_axis(scores.to_numpy(), order, axis=1)
    table = pd.DataFrame(
        {
            "group": scores.index.astype(str),
            "suggestion": names[order[:, 0]],
            "score": ranked[:, 0],
            "genes": [", ".join(known[name]) for name in names[order[:, 0]]],
        }
    )
    table["second"] = names[order[:, 1]] if len(names) > 1 else ""
    table["score_second"] = ranked[:, 1] if len(names) > 1 else np.nan
    # A group that expresses a type's genes hardly more than the others is not of that type.
    table.loc[table["score"] < LEAST, ["suggestion", "genes"]] = ""
    return table


def _read_marker_table(text: str) -> dict[str, list[str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))
    except csv.Error as error:
        raise SpatialFormerError(f"The marker table is no CSV: {error}.") from error
    header = {str(name).strip().lower() for name in (rows[0] if rows else ())}
    if not {"type", "gene"} <= header or len(rows) > _MAX_MARKER_ROWS:
        raise SpatialFormerError(
            "The marker table needs the columns type and gene, and at most "
            f"{_MAX_MARKER_ROWS:,} rows.",
            fix="Write one marker per row: 'type,gene', then for example 'T cell,CD3E'.",
        )
    found: dict[str, list[str]] = {}
    for row in rows:
        plain = {str(key).strip().lower(): str(value or "").strip() for key, value in row.items()}
        if plain["type"] and plain["gene"]:
            found.setdefault(plain["type"], []).append(plain["gene"])
    return found
