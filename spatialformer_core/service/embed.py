"""Embeddings of stored slides and AnnData files: from a request to a table and its map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.arrays import FloatArray
from spatialformer_core.config import validate
from spatialformer_core.progress import Cancel, Progress, check, never, silent, staged
from spatialformer_core.service.checkpoints import checkpoint_folder
from spatialformer_core.service.embed_map import with_map
from spatialformer_core.service.model_cells import (
    ModelCells,
    ModelCellsRequest,
    open_cells,
    provenance,
    read_result_table,
    shown_to,
    write_table,
)
from spatialformer_core.slides import SlideStore

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.inference import EmbedSettings, ModelInput
    from spatialformer_core.model import Checkpoint

TABLE, FACTS, NICHES = "embedding.parquet", "embedding.json", "niches.parquet"
GROUP = "group:"


class EmbedRequest(ModelCellsRequest):
    """What is embedded; stored with its result.

    Attributes
    ----------
    level
        ``cell``: the CLS state of every cell. ``gene``: the mean state of every gene.
    precision
        ``bfloat16`` is faster on devices that have it, and coarser.
    n_umap
        Cells that the map (UMAP) of a cell embedding is drawn of, at most; 0 for no map. Cells
        that fail quality control are not on it.
    resolution
        Of the clusters on the map (Leiden): higher gives more of them.
    n_niches
        Groups of cells around which a two-tower model expects like neighbours; 0 leaves them out.
    groupby
        Grouping whose types the expected neighbours are counted by; None takes the slide's default.
    seed
        Of the choice of cells for the map, of the map, its clusters and the niches.
    """

    level: Literal["cell", "gene"] = "cell"
    precision: Literal["float32", "bfloat16"] = "float32"
    n_umap: int = Field(default=0, ge=0, le=100_000)
    resolution: float = Field(default=1.0, gt=0, le=10)
    n_niches: int = Field(default=0, ge=0, le=30)
    groupby: str | None = Field(default=None, min_length=1, max_length=128)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class EmbeddingView:
    """A finished embedding for a page.

    Attributes
    ----------
    table
        ``cell_id passes_qc umap_1 umap_2 cluster niche`` and a column ``group:NAME`` per grouping;
        the map is NaN for cells that are not on it. At gene level ``gene n_cells``.
    vectors
        Shape ``(rows, dim)``.
    info
        See ``embedding.json``.
    """

    table: pd.DataFrame
    vectors: FloatArray
    info: dict[str, Any]


def run_embed_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Carry out a queued embedding; ``params`` is an `EmbedRequest` as JSON."""
    request = validate(EmbedRequest, params, "embed")
    store = SlideStore(files.home())
    folder = checkpoint_folder(files.home(), request.checkpoint_id)
    cells = open_cells(store, request)
    run_embedding(cells, request, folder, out, progress=progress, cancel=cancel)


def run_embedding(
    cells: ModelCells,
    request: EmbedRequest,
    checkpoint: Path,
    out: Path,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> dict[str, Any]:
    """Embed cells or genes and write table and facts into an existing folder.

    Returns
    -------
    dict
        The facts (``embedding.json``).

    Raises
    ------
    SpatialFormerError
        If the checkpoint knows too little of the genes, or the sample is not known.
    Cancelled
        If the user cancels.
    """
    from spatialformer_core.inference import EmbedSettings
    from spatialformer_core.service.embed_files import H5AD, write_h5ad

    progress(0.0, 1.0, "Reading the checkpoint and the cells")
    loaded, data = shown_to(cells, checkpoint, request)
    check(cancel)
    settings = EmbedSettings(meta=request.meta, precision=request.precision)
    last = 0.7 if request.n_umap else 0.95
    watch = (staged(progress, 0.05, last), cancel)
    if request.level == "gene":
        frame, n_dims = _genes(loaded, data, settings, watch)
    else:
        frame, n_dims = _cells(cells, loaded, data, settings, watch)
    facts = provenance(cells, loaded, data, request)
    facts |= {"level": request.level, "n_rows": len(frame), "n_dims": n_dims}
    if request.n_umap and request.level == "cell":
        check(cancel)
        frame, niches = with_map(
            frame, cells, loaded, request, (staged(progress, last, 0.97), cancel)
        )
        if niches is not None:
            write_table(out / NICHES, niches)
    write_table(out / TABLE, frame)
    if request.level == "cell":
        write_h5ad(embedding_view(frame, facts), out / H5AD)
    files.write_json(out / FACTS, facts)
    progress(1.0, 1.0, "Done")
    return facts


def embedding_view(frame: pd.DataFrame, info: dict[str, Any]) -> EmbeddingView:
    """Return a table of an embedding with its vectors apart."""
    names = _columns(int(info["n_dims"]))
    return EmbeddingView(frame.drop(columns=names), frame[names].to_numpy(np.float32), info)


def embedding_result(folder: Path) -> EmbeddingView:
    """Read a finished embedding.

    Raises
    ------
    SpatialFormerError
        If the folder holds none.
    """
    frame = read_result_table(folder, TABLE)
    return embedding_view(frame, files.read_json(folder / FACTS))


def _columns(n_dims: int) -> list[str]:
    return [f"e{k:04d}" for k in range(n_dims)]


def _cells(
    cells: ModelCells,
    loaded: Checkpoint,
    data: ModelInput,
    settings: EmbedSettings,
    watch: tuple[Progress, Cancel],
) -> tuple[pd.DataFrame, int]:
    import pandas as pd

    from spatialformer_core.inference import cls_states

    states = cls_states(
        loaded.model, data.cells, settings=settings, progress=watch[0], cancel=watch[1]
    )
    frame = pd.DataFrame({"cell_id": cells.cell_ids, "passes_qc": cells.passes_qc})
    for key, groups in cells.groups.items():
        frame[f"{GROUP}{key}"] = pd.Categorical.from_codes(
            groups.codes.astype(np.int32), list(groups.categories)
        )
    vectors = pd.DataFrame(states, columns=_columns(states.shape[1]))
    return pd.concat([frame, vectors], axis=1), states.shape[1]


def _genes(
    loaded: Checkpoint,
    data: ModelInput,
    settings: EmbedSettings,
    watch: tuple[Progress, Cancel],
) -> tuple[pd.DataFrame, int]:
    import pandas as pd

    from spatialformer_core.inference import gene_means

    found = gene_means(
        loaded.model, data.cells, settings=settings, progress=watch[0], cancel=watch[1]
    )
    names = [loaded.vocabulary.tokens[token] for token in found.tokens]
    frame = pd.DataFrame({"gene": names, "n_cells": found.n_cells})
    n_dims = found.mean.shape[1]
    return pd.concat([frame, pd.DataFrame(found.mean, columns=_columns(n_dims))], axis=1), n_dims
