"""A slide as SpatialData zarr, the form that any scverse tool reads.

Images stay in ``image/`` as OME-TIFF pyramids: a second copy in zarr would double the largest part
of a slide, and the viewer and napari read the pyramids as they are.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core.io.records import Polygons, Transcripts
from spatialformer_core.keys import Elements, Obs, Obsm
from spatialformer_core.slides.index import CellArrays, SlideArrays
from spatialformer_core.slides.meta import SlideMeta

_ROWS_PER_PART = 4_000_000
OUTSIDE = "UNASSIGNED"


def write_zarr(path: Path, meta: SlideMeta, slide: SlideArrays, transcripts: Transcripts) -> None:
    """Write table, shapes and points.

    The points hold every transcript of the source, also controls and those outside cells.
    """
    with warnings.catch_warnings():
        # Deprecations between spatialdata, zarr and dask are no concern of whoever ingests.
        warnings.simplefilter("ignore")
        import spatialdata

        if slide.polygons is not None:
            region, shapes = Elements.CELL_BOUNDARIES, _outlines(slide.polygons, slide.cells)
        else:
            region, shapes = Elements.CELL_CENTROIDS, _circles(slide.cells)
        spatialdata.SpatialData(
            tables={Elements.TABLE: _table(meta, slide, region)},
            shapes={region: shapes},
            points={Elements.TRANSCRIPTS: _points(transcripts, slide.cells)}
            if transcripts.n
            else {},
            attrs={"spatialformer": {"slide_id": meta.slide_id, "simulated": meta.simulated}},
        ).write(path)


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
        if key not in obs:
            obs[key] = pd.Categorical.from_codes(value.codes, list(value.categories))
    for key, entry in meta.sample.model_dump().items():
        if key not in obs:
            obs[key] = pd.Categorical([entry] * len(obs))
    data = anndata.AnnData(
        X=slide.counts, obs=obs, var=pd.DataFrame(index=pd.Index(list(slide.genes), dtype=object))
    )
    data.obsm[Obsm.SPATIAL] = cells.xy_um.astype(np.float64)
    return TableModel.parse(data, region=region, region_key=Obs.REGION, instance_key=Obs.CELL_ID)


def _outlines(polygons: Polygons, cells: CellArrays) -> Any:
    import geopandas
    import shapely
    from spatialdata.models import ShapesModel

    lengths = np.diff(polygons.indptr)
    drawn = np.flatnonzero(lengths >= 3)
    kept = np.repeat(lengths >= 3, lengths)
    ring = np.repeat(np.arange(len(drawn)), lengths[drawn])
    rings = shapely.linearrings(polygons.xy_um[kept].astype(np.float64), indices=ring)
    frame = geopandas.GeoDataFrame(
        geometry=shapely.polygons(rings), index=cells.cell_ids[drawn].astype(object)
    )
    return ShapesModel.parse(frame)


def _circles(cells: CellArrays) -> Any:
    from spatialdata.models import ShapesModel

    radius = np.sqrt(np.where(cells.area_um2 > 0, cells.area_um2, 50.0) / np.pi)
    return ShapesModel.parse(
        cells.xy_um.astype(np.float64),
        geometry=0,
        radius=radius,
        index=cells.cell_ids.astype(object),
    )


def _points(transcripts: Transcripts, cells: CellArrays) -> Any:
    import dask.dataframe as dd
    import pandas as pd
    from spatialdata.models import PointsModel

    columns = dict(zip("xyz", transcripts.xyz_um.T, strict=False))
    frame = pd.DataFrame(columns, copy=False)
    frame["feature_name"] = pd.Categorical.from_codes(
        transcripts.feature, list(transcripts.feature_names)
    )
    names = [*cells.cell_ids.tolist(), OUTSIDE]
    codes = np.where(transcripts.cell < 0, len(cells.cell_ids), transcripts.cell)
    frame[Obs.CELL_ID] = pd.Categorical.from_codes(codes, names)
    if transcripts.qv is not None:
        frame["qv"] = transcripts.qv
    parts = max(1, -(-len(frame) // _ROWS_PER_PART))
    return PointsModel.parse(
        dd.from_pandas(frame, npartitions=parts, sort=False),
        coordinates={axis: axis for axis in columns},
        feature_key="feature_name",
        instance_key=Obs.CELL_ID,
    )
