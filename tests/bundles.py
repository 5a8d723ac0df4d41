"""Small source folders, written by hand so that a test can break any part of them.

Used through the fixtures ``table_folder`` and ``xenium_folder``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from scipy import sparse

TYPES = ("Macrophage", "T cell", "Tumour")


@dataclass
class Tissue:
    """A small tissue: change a field, then write it."""

    seed: int = 0
    n_cells: int = 40
    genes: list[str] = field(default_factory=lambda: [f"GENE{i:02d}" for i in range(20)])
    controls: list[str] = field(default_factory=lambda: ["NegControlProbe_00001", "BLANK_0001"])

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.ids = np.array([f"cell-{i}" for i in range(self.n_cells)], object)
        self.xy = rng.uniform(20, 580, (self.n_cells, 2))
        self.area = rng.uniform(40, 90, self.n_cells)
        self.types = rng.integers(0, len(TYPES), self.n_cells)
        n = self.n_cells * 60
        self.tx_cell = rng.integers(-1, self.n_cells, n)
        self.tx_feature = rng.integers(0, len(self.features), n)
        centre = np.where(self.tx_cell[:, None] < 0, [[300.0, 300.0]], self.xy[self.tx_cell])
        self.tx_xyz = np.c_[centre + rng.normal(0, 3, (n, 2)), rng.uniform(10, 20, n)]
        self.tx_qv = rng.choice([10.0, 30.0, 40.0], n, p=[0.2, 0.4, 0.4])
        self.counts = self.count(20.0)

    @property
    def features(self) -> list[str]:
        return [*self.genes, *self.controls]

    def count(self, min_qv: float) -> np.ndarray:
        """Dense counts, cells x features, of transcripts of some quality."""
        dense = np.zeros((self.n_cells, len(self.features)), np.int64)
        good = (self.tx_cell >= 0) & (self.tx_qv >= min_qv)
        np.add.at(dense, (self.tx_cell[good], self.tx_feature[good]), 1)
        return dense

    def outlines(self) -> tuple[np.ndarray, np.ndarray]:
        """Squares of 8 um around the centroids, closed: cell per vertex, vertices."""
        corner = np.array([[-4, -4], [4, -4], [4, 4], [-4, 4], [-4, -4]])
        vertices = (self.xy[:, None, :] + corner).reshape(-1, 2)
        return np.repeat(self.ids, len(corner)), vertices


def write_h5ad(path: Path, tissue: Tissue) -> None:
    """AnnData's layout, by hand."""
    text = h5py.string_dtype()
    matrix = sparse.csr_matrix(tissue.counts)
    with h5py.File(path, "w") as file:
        x = file.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "shape": np.array(matrix.shape)})
        x["data"] = matrix.data.astype(np.float32)
        x["indices"], x["indptr"] = matrix.indices, matrix.indptr
        obs, var = file.create_group("obs"), file.create_group("var")
        obs.attrs["_index"] = var.attrs["_index"] = "_index"
        obs.create_dataset("_index", data=tissue.ids, dtype=text)
        obs["cell_area"] = tissue.area
        kinds = obs.create_group("celltype_marker")
        kinds.create_dataset("categories", data=np.array(TYPES, object), dtype=text)
        kinds["codes"] = tissue.types.astype(np.int8)
        var.create_dataset("_index", data=np.array(tissue.features, object), dtype=text)
        var["is_gene"] = np.array([f in tissue.genes for f in tissue.features])
        file.create_group("obsm")["spatial"] = tissue.xy


def transcript_table(tissue: Tissue) -> pa.Table:
    """All columns of a Xenium transcript table that we read."""
    names = np.append(tissue.ids, "UNASSIGNED")
    return pa.table(
        {
            "cell_id": pa.array(names[tissue.tx_cell].tolist(), pa.string()),
            "feature_name": np.array(tissue.features)[tissue.tx_feature].tolist(),
            "x_location": tissue.tx_xyz[:, 0].astype(np.float32),
            "y_location": tissue.tx_xyz[:, 1].astype(np.float32),
            "z_location": tissue.tx_xyz[:, 2].astype(np.float32),
            "qv": tissue.tx_qv.astype(np.float32),
        }
    )


def write_outlines(path: Path, tissue: Tissue) -> None:
    cell, xy = tissue.outlines()
    pq.write_table(
        pa.table({"cell_id": cell.tolist(), "vertex_x": xy[:, 0], "vertex_y": xy[:, 1]}), path
    )


def write_stain(path: Path, *, pixel_um: float | None = 0.5, size: int = 700) -> np.ndarray:
    """Two 16-bit channels as an OME-TIFF; returns the pixels."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 4000, (2, size, size + 41), dtype=np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "18S"]}}
    if pixel_um is not None:
        metadata |= {"PhysicalSizeX": pixel_um, "PhysicalSizeY": pixel_um}
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata, tile=(256, 256))
    return pixels


def write_he(path: Path, *, size: int = 900) -> np.ndarray:
    """A smooth colour picture; returns the pixels."""
    y, x = np.mgrid[:size, : size + 100].astype(np.float64)
    waves = [120 + 100 * np.sin(x / 90), 120 + 100 * np.cos(y / 70), 100 + (x + y) / 20]
    pixels = np.stack(waves, -1).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(path, pixels, ome=True, photometric="rgb", metadata={"axes": "YXS"})
    return pixels


def write_table_folder(folder: Path, tissue: Tissue) -> Path:
    """Table folder without z and QV, as the shared pancreas slide has none."""
    folder.mkdir(parents=True)
    write_h5ad(folder / "cells.h5ad", tissue)
    table = transcript_table(tissue).drop_columns(["z_location", "qv"])
    pq.write_table(table, folder / "transcripts.parquet", row_group_size=500)
    write_outlines(folder / "cell_boundaries.parquet", tissue)
    return folder


def write_xenium(folder: Path, tissue: Tissue, *, experiment: dict | None = None) -> Path:
    """Xenium output with the files that we read."""
    folder.mkdir(parents=True)
    pq.write_table(transcript_table(tissue), folder / "transcripts.parquet", row_group_size=700)
    cells = {
        "cell_id": tissue.ids.tolist(),
        "x_centroid": tissue.xy[:, 0],
        "y_centroid": tissue.xy[:, 1],
        "cell_area": tissue.area,
    }
    pq.write_table(pa.table(cells), folder / "cells.parquet")
    write_outlines(folder / "cell_boundaries.parquet", tissue)
    _write_10x(folder / "cell_feature_matrix.h5", tissue)
    values = {"pixel_size": 0.5, "analysis_sw_version": "xenium-3.0.0.15"} | (experiment or {})
    (folder / "experiment.xenium").write_text(json.dumps(values))
    (folder / "gene_panel.json").write_text("{}")
    return folder


def _write_10x(path: Path, tissue: Tissue) -> None:
    matrix = sparse.csr_matrix(tissue.counts)
    kinds = [
        "Gene Expression" if f in tissue.genes else "Negative Control" for f in tissue.features
    ]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = tissue.ids.astype("S")
        group["data"], group["indices"], group["indptr"] = (
            matrix.data.astype(np.int32),
            matrix.indices,
            matrix.indptr,
        )
        group["shape"] = np.array(matrix.shape[::-1])
        features = group.create_group("features")
        features["name"] = features["id"] = np.array(tissue.features, "S")
        features["feature_type"] = np.array(kinds, "S")
