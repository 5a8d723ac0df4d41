"""Small exports of other instruments, and SpatialData stores, of the tissue in ``bundles.py``.

Used through the fixture ``exports``.
"""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import tifffile

N_FOV = 2
FOV_PX = np.array([[0.0, -2000.0], [2600.0, -2000.0]])
"""Origins of the fields of view."""


def fov_and_cell(tissue) -> tuple[np.ndarray, np.ndarray]:
    """Cells alternate between two fields of view and are numbered within each from 1."""
    number = np.arange(tissue.n_cells)
    return number % N_FOV + 1, number // N_FOV + 1


def cosmx_ids(tissue) -> list[str]:
    return [f"{fov}_{cell}" for fov, cell in zip(*fov_and_cell(tissue), strict=True)]


def write_csv(path: Path, columns: dict) -> None:
    """CSV, gzipped where the name says so."""
    if path.suffix == ".gz":
        with gzip.open(path, "wb") as stream:
            pc.write_csv(pa.table(columns), stream)
    else:
        pc.write_csv(pa.table(columns), path)


def write_cosmx(folder: Path, tissue, *, um: float = 0.12, suffix: str = ".csv") -> Path:
    """All flat files that we read, in pixels, and the pictures that the public reader wants."""
    folder.mkdir(parents=True)
    fov, cell = fov_and_cell(tissue)
    outside = tissue.tx_cell < 0
    tx_fov = np.where(outside, 1, fov[tissue.tx_cell])
    px = tissue.tx_xyz[:, :2] / um
    origin = FOV_PX[tx_fov - 1]
    write_csv(
        folder / f"S1_tx_file{suffix}",
        {
            "fov": tx_fov,
            "cell_ID": np.where(outside, 0, cell[tissue.tx_cell]),
            "x_global_px": px[:, 0],
            "y_global_px": px[:, 1],
            "x_local_px": px[:, 0] - origin[:, 0],
            "y_local_px": px[:, 1] - origin[:, 1],
            "z": np.arange(len(px)) % 5,
            "target": [tissue.features[i] for i in tissue.tx_feature],
            "CellComp": ["Nuclear"] * len(px),
        },
    )
    ids = {"fov": fov, "cell_ID": cell}
    counts = tissue.count(0)
    matrix = ids | {name: counts[:, i] for i, name in enumerate(tissue.features)}
    write_csv(folder / f"S1_exprMat_file{suffix}", matrix)
    centre = tissue.xy / um
    local = centre - FOV_PX[fov - 1]
    metadata = ids | {"Area": tissue.area / um**2}
    metadata |= {"CenterX_local_px": local[:, 0], "CenterY_local_px": local[:, 1]}
    metadata |= {"CenterX_global_px": centre[:, 0], "CenterY_global_px": centre[:, 1]}
    write_csv(folder / f"S1_metadata_file{suffix}", metadata)
    positions = {"fov": [1, 2], "x_global_px": FOV_PX[:, 0], "y_global_px": FOV_PX[:, 1]}
    write_csv(folder / f"S1_fov_positions_file{suffix}", positions)
    owner, vertices = tissue.outlines()
    row = np.searchsorted(np.sort(tissue.ids), owner, sorter=None)
    row = np.argsort(tissue.ids, kind="stable")[row]
    outlines = {"fov": fov[row], "cellID": cell[row]}
    outlines |= {"x_global_px": vertices[:, 0] / um, "y_global_px": vertices[:, 1] / um}
    write_csv(folder / f"S1-polygons{suffix}", outlines)
    return folder


def write_cosmx_pictures(folder: Path) -> None:
    for kind, dtype in (("CellComposite", np.uint8), ("CellLabels", np.uint16)):
        (folder / kind).mkdir()
        for fov in (1, 2):
            shape = (20, 30, 3) if dtype == np.uint8 else (20, 30)
            tifffile.imwrite(folder / kind / f"{kind}_F00{fov}.tif", np.ones(shape, dtype))


def merscope_ids(tissue) -> list[str]:
    return [str(10_000_000_000 + 7 * i) for i in range(tissue.n_cells)]


def merscope_features(tissue) -> list[str]:
    return [*tissue.genes, *(f"Blank-{i}" for i in range(len(tissue.controls)))]


def write_merscope(folder: Path, tissue, *, suffix: str = ".csv") -> Path:
    """A region folder: matrix, cells, transcripts with cells, outlines in two planes, mosaics."""
    folder.mkdir(parents=True)
    ids, features = merscope_ids(tissue), merscope_features(tissue)
    counts = tissue.count(0)
    matrix = {"cell": ids} | {name: counts[:, i] for i, name in enumerate(features)}
    write_csv(folder / "cell_by_gene.csv", matrix)
    centre = {"center_x": tissue.xy[:, 0], "center_y": tissue.xy[:, 1]}
    cells = {"EntityID": ids, "fov": [0] * len(ids), "volume": tissue.area * 10}
    write_csv(folder / "cell_metadata.csv", cells | centre)
    outside = tissue.tx_cell < 0
    rows = {
        "": np.arange(len(outside)),
        "barcode_id": tissue.tx_feature,
        "global_x": tissue.tx_xyz[:, 0],
        "global_y": tissue.tx_xyz[:, 1],
        "global_z": np.arange(len(outside)) % 7 * 1.0,
        "gene": [features[i] for i in tissue.tx_feature],
        "cell_id": np.where(outside, "-1", np.array(ids)[tissue.tx_cell]),
    }
    if suffix == ".parquet":
        pq.write_table(pa.table(rows), folder / "detected_transcripts.parquet")
    else:
        write_csv(folder / f"detected_transcripts{suffix}", rows)
    write_merscope_outlines(folder / "cell_boundaries.parquet", tissue)
    pictures = folder / "images"
    pictures.mkdir()
    (pictures / "micron_to_mosaic_pixel_transform.csv").write_text("2 0 40\n0 2 60\n0 0 1\n")
    for stain, plane, level in (("DAPI", 0, 1), ("DAPI", 3, 2), ("PolyT", 3, 3)):
        shade = np.full((64, 80), level, np.uint16)
        tifffile.imwrite(pictures / f"mosaic_{stain}_z{plane}.tif", shade)
    return folder


def write_merscope_outlines(path: Path, tissue, *, planes: tuple[int, ...] = (0, 1)) -> None:
    """GeoParquet with squares of 8 um; the first cell also has a crumb of 1 um."""
    import geopandas
    import shapely

    squares = shapely.box(*(tissue.xy - 4).T, *(tissue.xy + 4).T)
    crumb = shapely.box(0, 0, 1, 1)
    shapes = [shapely.MultiPolygon([crumb, squares[0]])]
    shapes += [shapely.MultiPolygon([square]) for square in squares[1:]]
    n = len(shapes)
    frame = geopandas.GeoDataFrame(
        {
            "EntityID": np.tile(np.array(merscope_ids(tissue), np.int64), len(planes)),
            "ZIndex": np.repeat(planes, n),
        },
        geometry=shapes * len(planes),
    ).rename_geometry("Geometry")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.to_parquet(path)


def write_spatialdata(path: Path, tissue, *, version: int = 3, pixel_um: float = 0.5) -> Path:
    """A store as Xenium's reader makes them: shapes and points in um, pixels in common."""
    import anndata
    import geopandas
    import pandas as pd
    import shapely
    from scipy import sparse
    from spatialdata import SpatialData
    from spatialdata._io.format import SpatialDataContainerFormatV01, SpatialDataContainerFormatV02
    from spatialdata.models import Image2DModel, PointsModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine, Identity, Scale

    to_px = {"global": Scale([1 / pixel_um, 1 / pixel_um], ("x", "y"))}
    squares = shapely.box(*(tissue.xy - 4).T, *(tissue.xy + 4).T)
    small = shapely.box(*(tissue.xy - 1).T, *(tissue.xy + 1).T)
    shapes = {
        name: ShapesModel.parse(
            geopandas.GeoDataFrame(geometry=geometry, index=tissue.ids), transformations=to_px
        )
        for name, geometry in (("cell_boundaries", squares), ("nucleus_boundaries", small))
    }
    names = np.append(tissue.ids, "UNASSIGNED")
    frame = pd.DataFrame(dict(zip("xyz", tissue.tx_xyz.T, strict=True)))
    frame["feature_name"] = pd.Categorical(np.array(tissue.features)[tissue.tx_feature])
    frame["cell_id"] = names[tissue.tx_cell]
    frame["qv"] = tissue.tx_qv.astype(np.float32)
    points = PointsModel.parse(
        frame,
        coordinates={axis: axis for axis in "xyz"},
        feature_key="feature_name",
        instance_key="cell_id",
        transformations={"global": Scale([1 / pixel_um] * 2 + [1.0], ("x", "y", "z"))},
    )
    obs = pd.DataFrame({"cell_id": tissue.ids, "cell_area": tissue.area}, index=tissue.ids)
    obs["region"] = pd.Categorical(["cell_boundaries"] * tissue.n_cells)
    kinds = ("Macrophage", "T cell", "Tumour")
    obs["celltype_marker"] = pd.Categorical.from_codes(tissue.types, kinds)
    table = anndata.AnnData(
        sparse.csr_matrix(tissue.counts.astype(np.float32)),
        obs=obs,
        var=pd.DataFrame(index=tissue.features),
        obsm={"spatial": tissue.xy},
    )
    table = TableModel.parse(
        table, region="cell_boundaries", region_key="region", instance_key="cell_id"
    )
    y, x = np.mgrid[:60, :80]
    stain = Image2DModel.parse(
        np.stack([y * 9 + x]).astype(np.uint16), dims=("c", "y", "x"), c_coords=["DAPI"],
        transformations={"global": Identity()},
    )  # fmt: skip
    turned = Affine([[0, 2, 10], [2, 0, 20], [0, 0, 1]], ("x", "y"), ("x", "y"))
    he = Image2DModel.parse(
        np.stack([y, x, y + x]).astype(np.uint8), dims=("c", "y", "x"), c_coords=["r", "g", "b"],
        transformations={"global": turned},
    )  # fmt: skip
    formats = {2: SpatialDataContainerFormatV01, 3: SpatialDataContainerFormatV02}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        SpatialData(
            images={"morphology_focus": stain, "he_image": he},
            shapes=shapes,
            points={"transcripts": points},
            tables={"table": table},
        ).write(path, sdata_formats=[formats[version]()])
    return path
