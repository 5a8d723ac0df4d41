"""An embedding as files for other tools, and its clusters as a grouping of the slide."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import JobQueue, ensure_worker
from spatialformer_core.keys import Obsm
from spatialformer_core.progress import Cancel, Progress
from spatialformer_core.service.embed import GROUP, TABLE, embedding_result
from spatialformer_core.service.embed_map import CLUSTER, NICHE, UMAP
from spatialformer_core.service.results import read_result_file

if TYPE_CHECKING:
    from spatialformer_core.service.embed import EmbeddingView
    from spatialformer_core.service.facade import Services

KIND = "embedding-groups"
H5AD = "embedding.h5ad"
_UMAP_KEY = "X_umap"


class LabelsRequest(FrozenModel):
    """Which labels of a finished embedding become a grouping of its slide, under which name."""

    slide_id: str = Field(min_length=1, max_length=128)
    job_id: str = Field(min_length=1, max_length=128)
    column: Literal["cluster", "niche"]
    key: str = Field(min_length=1, max_length=64)


def write_h5ad(view: EmbeddingView, path: Path) -> None:
    """Write an embedding of cells as AnnData: groups in ``obs``, vectors and map in ``obsm``.

    Clusters and niches become ``spatialformer_cluster`` and ``spatialformer_niche``: the cells may
    have groupings of the plain names.
    """
    import anndata

    obs = view.table.drop(columns=list(UMAP), errors="ignore").set_index("cell_id")
    obs.index = obs.index.astype(str)
    own = {name: f"spatialformer_{name}" for name in (CLUSTER, NICHE) if name in obs}
    names = own | {name: name.removeprefix(GROUP) for name in obs if name.startswith(GROUP)}
    data = anndata.AnnData(obs=obs.rename(columns=names))
    data.obsm[Obsm.EMBEDDING] = view.vectors
    if UMAP[0] in view.table:
        data.obsm[_UMAP_KEY] = view.table[list(UMAP)].to_numpy(np.float32)
    data.write_h5ad(path)


def file_of(services: Services, job_id: str, kind: str, owner: str | None = None) -> bytes:
    """Return a finished embedding as ``h5ad``, ``parquet`` or ``csv``.

    Raises
    ------
    SpatialFormerError
        If the job is not done, or the file is larger than a browser should be sent.
    """
    folder = services.queue.result(job_id, owner, "embed")
    if kind == "h5ad":
        return read_result_file(folder, H5AD)
    if kind == "parquet":
        return read_result_file(folder, TABLE)
    import pyarrow.csv
    import pyarrow.parquet as pq

    table, buffer = pq.read_table(folder / TABLE), io.BytesIO()
    # Categories are written as their names.
    plain = [c.cast("string") if str(c.type).startswith("dictionary") else c for c in table.columns]
    pyarrow.csv.write_csv(type(table).from_arrays(plain, table.column_names), buffer)
    return buffer.getvalue()


def save_labels(services: Services, job_id: str, column: str, key: str, owner: str) -> str:
    """Queue that labels of an embedding become a grouping of its slide; return the job id.

    Parameters
    ----------
    column
        ``cluster`` or ``niche``.
    key
        Name of the grouping.

    Raises
    ------
    SpatialFormerError
        If there is no such embedding of this owner, or the slide has a grouping of that name.
    """
    services.queue.result(job_id, owner, "embed")
    slide_id = services.queue.get(job_id, owner).params.get("slide_id")
    values = {"slide_id": slide_id, "job_id": job_id, "column": column, "key": key.strip()}
    request = validate(LabelsRequest, values, "grouping")
    _require_new(services.slide(request.slide_id).meta.group_keys, request.key)
    made = services.queue.submit(KIND, request.model_dump(mode="json"), owner)
    ensure_worker(services.home)
    return made


def run_labels_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Carry out a queued saving of labels; writes ``grouping.json``."""
    import pandas as pd

    from spatialformer_core.slides import Groups, SlideChange, SlideStore, change_slide

    request = validate(LabelsRequest, params, "grouping")
    store = SlideStore(files.home())
    slide = store.open(request.slide_id)
    _require_new(slide.meta.group_keys, request.key)
    table = embedding_result(JobQueue(files.home()).result(request.job_id)).table
    if request.column not in table:
        raise SpatialFormerError(f"The embedding has no {request.column}.")
    labels = table.set_index("cell_id")[request.column].reindex(pd.Index(slide.cell_ids))
    groups = Groups(
        tuple(str(name) for name in labels.cat.categories), labels.cat.codes.to_numpy(np.int16)
    )
    change = SlideChange(groups={request.key: groups})
    change_slide(store, request.slide_id, change, progress=progress, cancel=cancel)
    n_labelled = int((groups.codes >= 0).sum())
    files.write_json(out / "grouping.json", {"key": request.key, "n_cells": n_labelled})


def _require_new(taken: tuple[str, ...], key: str) -> None:
    if key.lower() in {name.lower() for name in taken}:
        raise SpatialFormerError(
            f"The slide has a grouping {key[:60]!r} already.", fix="Choose another name."
        )
