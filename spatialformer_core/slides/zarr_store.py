"""A slide as SpatialData zarr, the form that any scverse tool reads.

Images stay in ``image/`` as OME-TIFF pyramids: a second copy in zarr would double the largest part
of a slide, and the viewer and napari read the pyramids as they are.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core.io.records import Names, Nuclei, Polygons, Transcripts
from spatialformer_core.keys import Elements, Obs, Obsm, Var
from spatialformer_core.slides import zarr_points
from spatialformer_core.slides.index import CellArrays, SlideArrays
from spatialformer_core.slides.meta import SlideMeta

_OURS = frozenset(
    (Obs.CELL_ID, Obs.REGION, Obs.TRANSCRIPTS, Obs.GENES, Obs.AREA_UM2, Obs.PASSES_QC)
)


def write_zarr(path: Path, meta: SlideMeta, slide: SlideArrays, transcripts: Transcripts) -> None:
    """Write table, shapes and points.

    The points hold every transcript of the source, also controls and those outside cells.
    """
    with warnings.catch_warnings():
        # Deprecations between spatialdata, zarr and dask are no concern of whoever ingests.
        warnings.simplefilter("ignore")
        import dask
        import spatialdata

        ids = slide.cells.cell_ids
        if slide.polygons is not None:
            region, shapes = Elements.CELL_BOUNDARIES, _outlines(slide.polygons, ids)
        else:
            region, shapes = Elements.CELL_CENTROIDS, _circles(slide.cells)
        shapes = {region: shapes}
        if slide.nuclei is not None:
            shapes[Elements.NUCLEUS_BOUNDARIES] = _nuclei(slide.nuclei, ids)
        points = zarr_points.first_rows(transcripts, ids) if transcripts.n else None
        data = spatialdata.SpatialData(
            tables={Elements.TABLE: _table(meta, slide, region)},
            shapes=shapes,
            points={} if points is None else {Elements.TRANSCRIPTS: points},
            attrs={"spatialformer": {"slide_id": meta.slide_id, "simulated": meta.simulated}},
        )
        # One row needs no pool of threads.
        with dask.config.set(scheduler="synchronous"):
            data.write(path)
    if points is not None:
        zarr_points.write_rows(path, transcripts, ids)


def group_column(key: str) -> str:
    """Return the column of ``obs`` that holds a grouping: its name, unless that one is ours."""
    return f"group_{key}" if key in _OURS else key


def _table(meta: SlideMeta, slide: SlideArrays, region: str) -> Any:
    import anndata
    import pandas as pd
    from spatialdata.models import TableModel

    cells = slide.cells
    obs = pd.DataFrame(
        {
            Obs.CELL_ID: cells.cell_ids.astype(object),
            Obs.REGION: pd.Categorical([region] * len(cells.cell_ids)),
            Obs.TRANSCRIPTS: cells.n_transcripts,
            Obs.GENES: cells.n_genes,
            Obs.AREA_UM2: cells.area_um2,
            Obs.PASSES_QC: cells.passes_qc,
        },
        index=pd.Index(cells.cell_ids.astype(object)),
    )
    for key, value in slide.groups.items():
        obs[group_column(key)] = pd.Categorical.from_codes(value.codes, list(value.categories))
    for key, entry in meta.sample.model_dump().items():
        if key not in obs:
            obs[key] = pd.Categorical([entry] * len(obs))
    var = pd.DataFrame(index=pd.Index(list(slide.genes), dtype=object))
    if slide.gene_ids is not None:
        var[Var.GENE_IDS] = list(slide.gene_ids)
    data = anndata.AnnData(X=slide.counts, obs=obs, var=var)
    data.obsm[Obsm.SPATIAL] = cells.xy_um.astype(np.float64)
    return TableModel.parse(data, region=region, region_key=Obs.REGION, instance_key=Obs.CELL_ID)


def _outlines(polygons: Polygons, names: Names) -> Any:
    """Return the outlines that have a surface as a shapes element, named by cell or nucleus."""
    import geopandas
    import shapely
    from spatialdata.models import ShapesModel

    lengths = np.diff(polygons.indptr)
    drawn = np.flatnonzero(lengths >= 3)
    kept = np.repeat(lengths >= 3, lengths)
    ring = np.repeat(np.arange(len(drawn)), lengths[drawn])
    rings = shapely.linearrings(polygons.xy_um[kept].astype(np.float64), indices=ring)
    frame = geopandas.GeoDataFrame(
        geometry=shapely.polygons(rings), index=names[drawn].astype(object)
    )
    return ShapesModel.parse(frame)


def _nuclei(nuclei: Nuclei, cell_ids: Names) -> Any:
    numbers = np.arange(len(nuclei.cell)).astype(np.str_)
    frame = _outlines(nuclei.outlines, numbers)
    frame[Obs.CELL_ID] = cell_ids[nuclei.cell[frame.index.to_numpy().astype(np.int64)]]
    return frame


def _circles(cells: CellArrays) -> Any:
    from spatialdata.models import ShapesModel

    radius = np.sqrt(np.where(cells.area_um2 > 0, cells.area_um2, 50.0) / np.pi)
    return ShapesModel.parse(
        cells.xy_um.astype(np.float64),
        geometry=0,
        radius=radius,
        index=cells.cell_ids.astype(object),
    )
