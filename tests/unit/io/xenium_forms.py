"""One small Xenium slide in every form that the instrument's versions write.

The Zarr files are written by zarr, the MatrixMarket text by scipy, the CSV by Arrow.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import scipy.io
import zarr

PIXEL_UM = 0.5
SIDE = 6
PARQUET = (
    "cells.parquet",
    "transcripts.parquet",
    "cell_boundaries.parquet",
    "nucleus_boundaries.parquet",
    "cell_feature_matrix.h5",
)
CSV = tuple(name.replace(".parquet", ".csv.gz") for name in PARQUET[:4])
BESIDE = ("experiment.xenium", "gene_panel.json")
ZARR = ("cells.zarr.zip", "transcripts.zarr.zip", "cell_feature_matrix.zarr.zip")


@dataclass
class Forms:
    """A folder that holds every form side by side."""

    folder: Path
    tissue: object

    def variant(self, target: Path, *names: str, beside: tuple[str, ...] = BESIDE) -> Path:
        """Copy some of the files into a folder of their own."""
        target.mkdir(parents=True)
        for name in (*names, *beside):
            source = self.folder / name
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, target / name)
        return target


def id_numbers(n: int) -> np.ndarray:
    """Prefix and suffix of each cell id."""
    return np.column_stack([np.arange(n) * 115_456_789 + 10, np.ones(n)]).astype(np.uint32)


def spelled(prefix: int, suffix: int) -> str:
    letters = "".join("abcdefghijklmnop"[int(digit, 16)] for digit in f"{prefix:08x}")
    return f"{letters}-{suffix}"


def make_tissue(bundles: ModuleType):
    """Cells on a grid, 8 um wide, with nuclei 4 um wide; transcripts inside their cells."""
    n = SIDE * SIDE
    tissue = bundles.Tissue(seed=3, n_cells=n)
    tissue.ids = np.array([spelled(*map(int, pair)) for pair in id_numbers(n)], object)
    tissue.xy = np.stack(np.divmod(np.arange(n), SIDE), -1) * 20.0 + 20
    rng = np.random.default_rng(5)
    centre = tissue.xy[tissue.tx_cell] + np.where(tissue.tx_cell < 0, 10, 0)[:, None]
    inside = rng.uniform(-3.9, 3.9, (len(centre), 2))
    tissue.tx_xyz[:, :2] = centre + inside
    tissue.in_nucleus = (np.abs(inside) < 2).all(axis=1) & (tissue.tx_cell >= 0)
    return tissue


def build(folder: Path, bundles: ModuleType) -> Forms:
    tissue = make_tissue(bundles)
    bundles.write_xenium(folder, tissue, experiment={"pixel_size": PIXEL_UM})
    table = pq.read_table(folder / "transcripts.parquet")
    table = table.append_column("overlaps_nucleus", pa.array(tissue.in_nucleus.astype(np.uint8)))
    pq.write_table(table, folder / "transcripts.parquet", row_group_size=700)
    pq.write_table(_nuclei(tissue), folder / "nucleus_boundaries.parquet")
    for parquet, text in zip(PARQUET, CSV, strict=False):
        write_csv(folder / text, pq.read_table(folder / parquet))
    _write_mex(folder / "cell_feature_matrix", tissue)
    _write_cells_zarr(folder / "cells.zarr.zip", tissue)
    _write_transcripts_zarr(folder / "transcripts.zarr.zip", tissue)
    _write_matrix_zarr(folder / "cell_feature_matrix.zarr.zip", tissue)
    targets = [
        {"type": {"descriptor": "gene", "data": {"id": f"ENSG{i:011d}", "name": name}}}
        for i, name in enumerate(tissue.genes)
    ]
    (folder / "gene_panel.json").write_text(json.dumps({"payload": {"targets": targets}}))
    return Forms(folder, tissue)


def write_csv(path: Path, table: pa.Table) -> None:
    stream = io.BytesIO()
    pc.write_csv(table, stream)
    path.write_bytes(gzip.compress(stream.getvalue()))


def _squares(xy: np.ndarray, half: float) -> np.ndarray:
    corner = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    return xy[:, None, :] + corner


def _nuclei(tissue) -> pa.Table:
    """A nucleus per cell, and a second one in the last cell."""
    owner = np.append(np.arange(tissue.n_cells), tissue.n_cells - 1)
    vertices = _squares(tissue.xy[owner], 2.0)
    vertices[-1] += 1
    return pa.table(
        {
            "cell_id": np.repeat(tissue.ids[owner], 5).tolist(),
            "vertex_x": vertices[..., 0].ravel(),
            "vertex_y": vertices[..., 1].ravel(),
            "label_id": np.repeat(np.arange(len(owner)) + 1, 5),
        }
    )


def _write_mex(folder: Path, tissue) -> None:
    folder.mkdir()
    rows = [
        f"{name}\t{name}\t{'Gene Expression' if name in tissue.genes else 'Negative Control'}\n"
        for name in tissue.features
    ]
    matrix = io.BytesIO()
    scipy.io.mmwrite(matrix, scipy.sparse.coo_matrix(tissue.counts.T), field="integer")
    for name, text in (
        ("features.tsv.gz", "".join(rows).encode()),
        ("barcodes.tsv.gz", "".join(f"{i}\n" for i in tissue.ids).encode()),
        ("matrix.mtx.gz", matrix.getvalue()),
    ):
        (folder / name).write_bytes(gzip.compress(text))


def _write_cells_zarr(path: Path, tissue) -> None:
    n = tissue.n_cells
    columns = ["cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_count"]
    summary = np.column_stack([tissue.xy, tissue.area, np.ones(n)])
    width = int(20 * (SIDE + 1) / PIXEL_UM)
    owner = (np.append(np.arange(n), n - 1), np.arange(n)[::-1])
    vertices = [_squares(tissue.xy[cells], half) for cells, half in zip(owner, (2, 4), strict=True)]
    vertices[0][-1] += 1
    store = zarr.storage.ZipStore(path, mode="w")
    root = zarr.group(store, zarr_format=2, attributes={"major_version": 6})
    root.create_array("cell_id", data=id_numbers(n), chunks=(10, 1))
    root.create_array("cell_summary", data=summary, attributes={"column_names": columns})
    for which, half in ((0, 2.0), (1, 4.0)):
        mask = np.zeros((width, width), np.uint32)
        for label, cell in enumerate(owner[which], 1):
            low, high = ((tissue.xy[cell] + offset) / PIXEL_UM for offset in (-half, half))
            mask[int(low[1]) : int(high[1]), int(low[0]) : int(high[0])] = label
        base = f"polygon_sets/{which}"
        root.create_array(f"masks/{which}", data=mask, chunks=(64, 64))
        root.create_array(f"{base}/cell_index", data=owner[which].astype(np.uint32))
        root.create_array(f"{base}/num_vertices", data=np.full(len(owner[which]), 5, np.int32))
        padded = np.full((len(owner[which]), 26), np.nan, np.float32)
        padded[:, :10] = vertices[which].reshape(-1, 10)
        root.create_array(f"{base}/vertices", data=padded, chunks=(7, 5))
    store.close()


def _write_transcripts_zarr(path: Path, tissue) -> None:
    store = zarr.storage.ZipStore(path, mode="w")
    root = zarr.group(store, zarr_format=2, attributes={"gene_names": tissue.features})
    tile = (tissue.tx_xyz[:, :2] // 60).astype(int)
    for key in np.unique(tile, axis=0):
        rows = np.flatnonzero((tile == key).all(axis=1))
        # One row more that is not valid: it must not come back.
        rows, valid = np.append(rows, rows[0]), np.append(np.ones(len(rows)), 0)
        base = f"grids/0/{key[0]},{key[1]}"
        arrays = {
            "location": tissue.tx_xyz[rows].astype(np.float32),
            "gene_identity": tissue.tx_feature[rows, None].astype(np.uint16),
            "quality_score": tissue.tx_qv[rows, None].astype(np.float32),
            "valid": valid[:, None].astype(np.uint8),
        }
        for name, values in arrays.items():
            root.create_array(f"{base}/{name}", data=values, chunks=(len(rows), 1))
    root.create_array("grids/1/0,0/location", data=np.zeros((3, 3), np.float32))
    store.close()


def _write_matrix_zarr(path: Path, tissue) -> None:
    summed = np.column_stack([tissue.counts, tissue.counts.sum(axis=1)])
    matrix = scipy.sparse.csr_matrix(summed.T)
    names = [*tissue.features, "Total transcripts"]
    kinds = ["gene" if n in tissue.genes else "negative_control_probe" for n in tissue.features]
    attributes = {
        "feature_keys": names,
        "feature_ids": names,
        "feature_types": [*kinds, "aggregate_gene"],
        "number_cells": tissue.n_cells,
        "number_features": len(names),
    }
    store = zarr.storage.ZipStore(path, mode="w")
    group = zarr.group(store, zarr_format=2).create_group("cell_features", attributes=attributes)
    group.create_array("cell_id", data=id_numbers(tissue.n_cells))
    for name in ("data", "indices", "indptr"):
        group.create_array(name, data=getattr(matrix, name).astype(np.uint32), chunks=(100,))
    store.close()
