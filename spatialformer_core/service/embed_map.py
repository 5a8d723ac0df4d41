"""Map, clusters and expected niches of an embedding of cells, as columns of its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core.arrays import DoubleArray, FloatArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, staged

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.inference.embedding_map import EmbeddingMap
    from spatialformer_core.model import Checkpoint
    from spatialformer_core.service.embed import EmbedRequest
    from spatialformer_core.service.model_cells import ModelCells

UMAP = ("umap_1", "umap_2")
CLUSTER, NICHE = "cluster", "niche"
_MIN_CELLS = 10
_ANCHORS = 300
_NAMED_SHARE = 0.02
_NAMED = 2


def with_map(
    frame: pd.DataFrame,
    cells: ModelCells,
    loaded: Checkpoint,
    request: EmbedRequest,
    watch: tuple[Progress, Cancel],
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return an embedding's table with map, clusters and niches, and what the niches are.

    Parameters
    ----------
    frame
        ``cell_id passes_qc``, groupings, and the embedding (``e0000 ...``).

    Returns
    -------
    tuple
        The table with ``umap_1 umap_2 cluster niche`` behind ``passes_qc`` (``niche`` only if
        asked for), and ``niche type share times_average n_cells`` or None.

    Raises
    ------
    SpatialFormerError
        If niches are wanted of a cross-encoder, or there is no grouping of that name.
    """
    from spatialformer_core.inference.embedding_map import embedding_map, map_clusters

    progress, cancel = watch
    names = [name for name in frame if name[0] == "e" and name[1:].isdigit()]
    vectors = frame[names].to_numpy(np.float32)
    rows = _drawn(cells, request)
    if len(rows) < _MIN_CELLS:
        return _with_columns(frame, {name: np.full(len(frame), np.nan) for name in UMAP}), None
    progress(0.0, 1.0, "Drawing the map")
    found = embedding_map(vectors, rows, request.seed)
    check(cancel)
    progress(0.6, 1.0, "Clusters of the map")
    place = np.full((len(frame), 2), np.nan, np.float32)
    place[rows] = found.place
    columns: dict[str, Any] = {name: place[:, k] for k, name in enumerate(UMAP)}
    clusters = map_clusters(found, request.resolution, request.seed)
    numbers = [str(k + 1) for k in range(int(clusters.max()) + 1)]
    columns[CLUSTER] = _labels(_everywhere(vectors, found, clusters, cells), numbers)
    check(cancel)
    table = None
    if request.n_niches:
        inner = (staged(progress, 0.7, 1.0), cancel)
        codes, table = _niches(vectors, found, cells, (loaded, request), inner)
        niche_names = list(dict.fromkeys(table["niche"]))
        columns[NICHE] = _labels(_everywhere(vectors, found, codes, cells), niche_names)
    return _with_columns(frame, columns), table


def _drawn(cells: ModelCells, request: EmbedRequest) -> LongArray:
    rows = np.flatnonzero(cells.passes_qc).astype(np.int64)
    if len(rows) > request.n_umap:
        rng = np.random.default_rng(request.seed)
        rows = np.sort(rng.choice(rows, request.n_umap, replace=False))
    return rows


def _with_columns(frame: pd.DataFrame, columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    added = pd.DataFrame(columns, index=frame.index)
    return pd.concat([frame.iloc[:, :2], added, frame.iloc[:, 2:]], axis=1)


def _everywhere(
    vectors: FloatArray, found: EmbeddingMap, codes: LongArray, cells: ModelCells
) -> LongArray:
    """Return labels of all cells that pass quality control; -1 for the others."""
    from spatialformer_core.inference.embedding_map import spread

    everywhere = np.full(len(vectors), -1, np.int64)
    everywhere[found.rows] = codes
    others = np.flatnonzero(cells.passes_qc & (everywhere < 0)).astype(np.int64)
    everywhere[others] = spread(vectors, found.rows, codes, others)
    return everywhere


def _labels(codes: LongArray, names: list[str]) -> Any:
    import pandas as pd

    return pd.Categorical.from_codes(codes, names)


def _niches(
    vectors: FloatArray,
    found: EmbeddingMap,
    cells: ModelCells,
    asked: tuple[Checkpoint, EmbedRequest],
    watch: tuple[Progress, Cancel],
) -> tuple[LongArray, pd.DataFrame]:
    from spatialformer_core.inference import make_scorer, typed
    from spatialformer_core.inference.embedding_map import (
        expected_surroundings,
        niches_of,
        towers_of,
    )

    loaded, request = asked
    groups = cells.group(_groupby(cells, request))
    names, types = typed(groups.categories, np.asarray(groups.codes, np.int64))
    anchors = np.flatnonzero(cells.passes_qc).astype(np.int64)
    rng = np.random.default_rng((request.seed, 1))
    anchors = np.sort(rng.choice(anchors, min(_ANCHORS, len(anchors)), replace=False))
    around = expected_surroundings(
        make_scorer(loaded),
        towers_of(loaded.model, vectors),
        (found.rows, anchors),
        (types, len(names)),
        progress=watch[0],
        cancel=watch[1],
    )
    codes = niches_of(around, request.n_niches, request.seed)
    return codes, _table(around, codes, names)


def _groupby(cells: ModelCells, request: EmbedRequest) -> str:
    default = None if cells.slide is None else cells.slide.meta.default_group
    groupby = request.groupby or default
    if groupby is None:
        raise SpatialFormerError(
            "Niches are counted by cell type, and no grouping of the cells is named.",
            where=cells.name,
            fix="Name a grouping, or leave the niches out.",
        )
    return groupby


def _table(around: DoubleArray, codes: LongArray, names: tuple[str, ...]) -> pd.DataFrame:
    """Return ``niche type share times_average n_cells``; a niche is named by what is most more."""
    import pandas as pd

    average, rows = around.mean(0), []
    for code in range(int(codes.max()) + 1):
        share = around[codes == code].mean(0)
        times = np.divide(share, average, out=np.ones_like(share), where=average > 0)
        leading = np.argsort(-np.where(share >= _NAMED_SHARE, times, 0.0), kind="stable")[:_NAMED]
        label = f"{code + 1} {' + '.join(names[k] for k in leading)}"
        n_cells = int((codes == code).sum())
        rows += [(label, *row, n_cells) for row in zip(names, share, times, strict=True)]
    return pd.DataFrame(rows, columns=["niche", "type", "share", "times_average", "n_cells"])
