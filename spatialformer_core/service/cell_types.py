"""Clusters of a slide with their marker genes, and which types a marker table suggests for them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import ensure_worker
from spatialformer_core.progress import Cancel, Progress, check, staged
from spatialformer_core.service.changes import free_key
from spatialformer_core.service.tissue import NO_GROUP

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.service.facade import Services
    from spatialformer_core.slides import Groups, Slide

__all__ = [
    "KIND",
    "NO_GROUP",
    "TypesRequest",
    "TypesView",
    "newest_groupby",
    "newest_types",
    "run_types_job",
    "start_types",
    "types_result",
]

KIND = "types"
MARKERS, PROFILE, FACTS = "markers.parquet", "profile.parquet", "types.json"
_MIN_CELLS = 3
_TARGET_SUM = 100.0
_EXACT = 100_000
"""Points up to which nearest neighbours are searched exactly: a matrix product, without the minute
in which the approximate search is compiled."""
MARK = (
    "Clusters and scores come from the same cells: the scores put genes in order and are no tests."
)


class TypesRequest(FrozenModel):
    """What a look for marker genes is asked to do.

    Attributes
    ----------
    groupby
        The grouping whose markers are wanted; None clusters the cells first and adds the clusters
        to the slide as a grouping.
    resolution
        Of the clustering: more gives more clusters.
    neighbours, components
        Nearest cells in the space of so many principal components that clusters are made from.
    n_markers
        Genes kept per group.
    """

    slide_id: str = Field(min_length=1, max_length=64)
    groupby: str | None = Field(default=None, max_length=128)
    resolution: float = Field(default=1.0, gt=0, le=10)
    neighbours: int = Field(default=15, ge=2, le=100)
    components: int = Field(default=30, ge=2, le=100)
    n_markers: int = Field(default=50, ge=1, le=1000)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, slots=True)
class TypesView:
    """What a job found.

    Attributes
    ----------
    markers
        ``group gene score log2_fold_change share_in share_rest mean``, best gene of each group
        first; mean of log(1 + counts per 100).
    profile
        Mean of log(1 + counts per 100), groups x genes.
    facts
        Settings and what there is to say; ``groupby`` is the grouping, new or old.
    """

    markers: pd.DataFrame
    profile: pd.DataFrame
    facts: dict[str, Any]


def start_types(services: Services, request: TypesRequest, owner: str) -> str:
    """Queue the clustering or the look for markers and return the job id.

    Raises
    ------
    SpatialFormerError
        If there is no such slide or grouping.
    """
    slide = services.slide(request.slide_id)
    if request.groupby is not None:
        slide.group(request.groupby)
    job_id = services.queue.submit(KIND, request.model_dump(mode="json"), owner)
    ensure_worker(services.home)
    return job_id


def newest_types(
    services: Services, slide_id: str, groupby: str, owner: str | None = None
) -> TypesView | None:
    """Return the newest markers of a grouping as the slide is now, None if there are none."""
    digest = _digest(services.slide(slide_id).group(groupby))
    for job in services.jobs(owner):
        if job.kind != KIND or job.status != "done" or job.params.get("slide_id") != slide_id:
            continue
        found = types_result(services.queue.result(job.id, owner))
        # A grouping of the same name may be another one by now.
        if (found.facts["groupby"], found.facts.get("digest")) == (groupby, digest):
            return found
    return None


def newest_groupby(services: Services, slide_id: str, owner: str | None = None) -> str | None:
    """Return the grouping that the newest job on a slide made or ranked the markers of."""
    for job in services.jobs(owner):
        if job.kind == KIND and job.status == "done" and job.params.get("slide_id") == slide_id:
            facts = files.read_json(services.queue.result(job.id, owner) / FACTS)
            return str(facts["groupby"])
    return None


def _digest(groups: Groups) -> str:
    """Return a hash of which cells belong to which groups."""
    names = "\0".join(groups.categories).encode("utf-8")
    codes = np.ascontiguousarray(groups.codes, np.int16).tobytes()
    return hashlib.sha256(names + b"\0\0" + codes).hexdigest()


def types_result(folder: Path) -> TypesView:
    """Read a finished job.

    Raises
    ------
    SpatialFormerError
        If the folder holds none.
    """
    import pandas as pd

    facts = files.read_json(folder / FACTS)
    profile = pd.read_parquet(folder / PROFILE).set_index("group")
    return TypesView(pd.read_parquet(folder / MARKERS), profile, facts)


def run_types_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Carry out a queued request; ``params`` is a `TypesRequest` as JSON.

    Raises
    ------
    SpatialFormerError
        If the slide or grouping is gone, or too few cells pass quality control.
    Cancelled
        If the user cancels; the slide stays as it was.
    """
    from spatialformer_core.slides import SlideChange, SlideStore, change_slide

    request = validate(TypesRequest, params, "types")
    store = SlideStore(files.home())
    slide = store.open(request.slide_id)
    progress(0.05, 1.0, "Normalising the counts")
    data, rows = _normalised(slide)
    if request.groupby is None:
        groups = _clusters(data, slide, request, staged(progress, 0.1, 0.6), cancel)
        # Asked anew: somebody may have added a grouping while the cells were clustered.
        taken = store.open(request.slide_id).group_keys
        key = free_key(f"leiden_{request.resolution:g}", taken)
    else:
        key, groups = request.groupby, slide.group(request.groupby)
    check(cancel)
    progress(0.6, 1.0, "Ranking the genes")
    markers, profile = _markers(data, np.asarray(groups.codes)[rows], groups, request.n_markers)
    _write(out / MARKERS, markers)
    _write(out / PROFILE, profile)
    facts = {
        "slide_id": request.slide_id,
        "created": slide.meta.created,
        "groupby": key,
        "digest": _digest(groups),
        "is_new": request.groupby is None,
        "groups": len(groups.categories),
        "cells": len(rows),
        "request": request.model_dump(mode="json"),
        "mark": MARK,
        "scanpy": metadata.version("scanpy"),
        "simulated": slide.meta.simulated,
    }
    files.write_json(out / FACTS, facts)
    check(cancel)
    if request.groupby is None:
        # Last of all: whoever cancels before finds the slide as it was.
        change = SlideChange(groups={key: groups})
        inner = staged(progress, 0.85, 1.0)
        change_slide(store, request.slide_id, change, progress=inner, cancel=cancel)
    progress(1.0, 1.0, "Done")


def _normalised(slide: Slide) -> tuple[Any, NDArray[np.intp]]:
    import anndata
    import scanpy

    rows = np.flatnonzero(np.asarray(slide.passes_qc))
    if len(rows) < 2 * _MIN_CELLS:
        raise SpatialFormerError(
            f"{len(rows)} cells pass quality control; that is too few for clusters or markers.",
            where=slide.meta.slide_id,
        )
    data = anndata.AnnData(slide.counts[rows].astype(np.float32))
    data.var_names = list(slide.genes)
    scanpy.pp.normalize_total(data, target_sum=_TARGET_SUM)
    scanpy.pp.log1p(data)
    return data, rows


class _Nearest:
    """Nearest neighbours in the form that scanpy reads: a matrix, where these return arrays."""

    def __init__(self, n_neighbours: int, seed: int) -> None:
        self._n, self._seed = n_neighbours, seed

    def get_params(self) -> dict[str, int]:
        """Return what scanpy asks for."""
        return {"n_neighbors": self._n}

    def fit_transform(self, points: NDArray[np.float32]) -> Any:
        """Return the distances to the nearest points, CSR ``(n, n)``."""
        from scipy import sparse

        if len(points) <= _EXACT:
            from sklearn.neighbors import KNeighborsTransformer

            found = KNeighborsTransformer(n_neighbors=self._n, algorithm="brute")
            found = found.fit_transform(points)
        else:
            from pynndescent import PyNNDescentTransformer  # type: ignore[import-untyped]

            maker = PyNNDescentTransformer(
                n_neighbors=self._n, random_state=self._seed, n_jobs=1, low_memory=True
            )
            found = maker.fit_transform(points)
        return sparse.csr_matrix(found)


def _clusters(
    data: Any,
    slide: Slide,
    request: TypesRequest,
    progress: Progress,
    cancel: Cancel,
) -> Groups:
    """Cluster the cells that pass QC; the others belong to no cluster."""
    import scanpy

    from spatialformer_core.slides import Groups as Made

    n_components = min(request.components, data.n_obs - 1, data.n_vars - 1)
    scanpy.pp.pca(data, n_comps=n_components, random_state=request.seed)
    check(cancel)
    progress(0.2, 1.0, "Finding similar cells")
    nearest = _Nearest(min(request.neighbours, data.n_obs - 1), request.seed)
    scanpy.pp.neighbors(data, use_rep="X_pca", transformer=nearest, random_state=request.seed)
    check(cancel)
    progress(0.7, 1.0, "Clustering")
    scanpy.tl.leiden(
        data,
        resolution=request.resolution,
        random_state=request.seed,
        flavor="igraph",
        n_iterations=2,
        directed=False,
        key_added="cluster",
    )
    names = [str(name) for name in data.obs["cluster"].cat.categories]
    codes = np.full(slide.meta.n_cells, -1, np.int16)
    codes[np.asarray(slide.passes_qc)] = data.obs["cluster"].cat.codes.to_numpy(np.int16)
    return Made(tuple(names), codes)


def _markers(
    data: Any, codes: NDArray[np.int16], groups: Groups, n_markers: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd
    import scanpy

    names = list(groups.categories)
    data.obs["group"] = pd.Categorical.from_codes(codes, names)
    cells = np.bincount(codes[codes >= 0], minlength=len(names))
    chosen = [name for name, n in zip(names, cells, strict=True) if n >= _MIN_CELLS]
    means = scanpy.get.aggregate(data[codes >= 0], by="group", func="mean")
    profile = pd.DataFrame(means.layers["mean"], index=means.obs_names, columns=data.var_names)
    profile = profile.loc[[name for name in profile.index if name in chosen]]
    columns = ["group", "gene", "score", "log2_fold_change", "share_in", "share_rest", "mean"]
    if len(chosen) < 2:
        table = pd.DataFrame(columns=columns)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            scanpy.tl.rank_genes_groups(
                data, "group", groups=chosen, method="t-test_overestim_var", pts=True
            )
        found = scanpy.get.rank_genes_groups_df(data, group=chosen)
        if "group" not in found:
            found["group"] = chosen[0]
        table = found.groupby("group", sort=False, observed=True).head(n_markers)
        table = table.rename(
            columns={
                "names": "gene",
                "scores": "score",
                "logfoldchanges": "log2_fold_change",
                "pct_nz_group": "share_in",
                "pct_nz_reference": "share_rest",
            }
        ).astype({"group": str, "gene": str})
        at = (profile.index.get_indexer(table["group"]), profile.columns.get_indexer(table["gene"]))
        table = table.assign(mean=profile.to_numpy()[at])[columns].reset_index(drop=True)
    return table, profile.rename_axis("group").reset_index().astype({"group": str})


def _write(path: Path, table: pd.DataFrame) -> None:
    with files.atomic_write(path) as stream:
        table.to_parquet(stream, index=False)
