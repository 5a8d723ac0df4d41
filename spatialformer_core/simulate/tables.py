"""The tables of a Xenium output bundle: transcripts, cells, outlines, matrix, clusters, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spatialformer_core.arrays import FloatArray, IntArray
from spatialformer_core.simulate.clusters import cluster_cells
from spatialformer_core.simulate.panel import CELL_TYPES, load_panel
from spatialformer_core.simulate.slide import SimulatedSlide
from spatialformer_core.simulate.tissue import Zone

UNASSIGNED: Final = "UNASSIGNED"
_FOV_UM: Final = 500.0
_ROW_GROUP: Final = 500_000
_GENOME = "GRCh38"
_FIRST_TRANSCRIPT_ID = 1 << 48
_COUNT_COLUMNS = {
    "Negative Control Probe": "control_probe_counts",
    "Negative Control Codeword": "control_codeword_counts",
    "Unassigned Codeword": "unassigned_codeword_counts",
}


def write_transcripts(slide: SimulatedSlide, path: Path) -> int:
    """Write ``transcripts.parquet``, field of view by field of view; return its rows."""
    transcripts = slide.transcripts
    fov = np.minimum(transcripts.xyz_um[:, :2] // _FOV_UM, 25).astype(np.int32).clip(0)
    fov_code = fov[:, 0] * 26 + fov[:, 1]
    order = np.argsort(fov_code, kind="stable")
    fov_code = fov_code[order]
    t = transcripts.take(order)
    names = [f"{chr(65 + code // 26)}{code % 26 + 1}" for code in range(26 * 26)]
    ids = np.append(slide.cell_ids, UNASSIGNED)
    number = (
        _FIRST_TRANSCRIPT_ID
        + (fov_code.astype(np.uint64) << 32)
        + np.arange(len(t), dtype=np.uint64)
    )
    table = pa.table(
        {
            "transcript_id": number,
            "cell_id": _named(t.cell, ids),
            "overlaps_nucleus": t.in_nucleus.astype(np.uint8),
            "feature_name": _named(t.feature, np.array(load_panel().features)),
            "x_location": t.xyz_um[:, 0],
            "y_location": t.xyz_um[:, 1],
            "z_location": t.xyz_um[:, 2],
            "qv": t.qv,
            "fov_name": _named(fov_code, np.array(names)),
            "nucleus_distance": t.nucleus_distance_um,
        }
    )
    pq.write_table(table, path, row_group_size=_ROW_GROUP, compression="zstd")
    return len(t)


def _named(codes: IntArray, names: NDArray[Any]) -> Any:
    """Return the names of codes as a plain string column; code -1 is the last name."""
    codes = np.where(codes < 0, len(names) - 1, codes).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names.tolist())).cast(
        pa.string()
    )


def write_cells(slide: SimulatedSlide, matrix: csr_matrix, path: Path) -> None:
    """Write ``cells.parquet``."""
    panel = load_panel()
    kinds = np.array(["Gene Expression"] * panel.n_genes + [kind for _, kind in panel.controls])

    def total(kind: str) -> IntArray:
        return np.asarray(matrix[:, kinds == kind].sum(axis=1)).ravel().astype(np.int32)

    shapes = slide.outlines
    columns: dict[str, Any] = {
        "cell_id": slide.cell_ids.tolist(),
        "x_centroid": shapes.centroid_um[:, 0],
        "y_centroid": shapes.centroid_um[:, 1],
        "transcript_counts": total("Gene Expression"),
        **{column: total(kind) for kind, column in _COUNT_COLUMNS.items()},
        "total_counts": np.asarray(matrix.sum(axis=1)).ravel().astype(np.int32),
        "cell_area": shapes.cell_area_um2.astype(np.float64),
        "nucleus_area": shapes.nucleus_area_um2.astype(np.float64),
        "nucleus_count": shapes.has_nucleus.astype(np.int32),
        "segmentation_method": ["Simulated outline"] * slide.n_cells,
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def write_outlines(
    slide: SimulatedSlide, outlines_um: FloatArray, label: IntArray, path: Path
) -> None:
    """Write a boundary table; outlines with label 0 are left out.

    Parameters
    ----------
    slide
        The slide.
    outlines_um
        Vertices relative to the cells' centres, shape ``(n, V, 2)``.
    label
        Mask value of each outline, shape ``(n,)``.
    path
        Where to write.
    """
    chosen = np.flatnonzero(label)
    closed = np.concatenate([outlines_um[chosen], outlines_um[chosen, :1]], axis=1)
    vertices = (closed + slide.outlines.centre_um[chosen, None, :]).astype(np.float32)
    repeats = vertices.shape[1]
    table = pa.table(
        {
            "cell_id": _named(np.repeat(chosen, repeats), slide.cell_ids),
            "vertex_x": vertices[..., 0].ravel(),
            "vertex_y": vertices[..., 1].ravel(),
            "label_id": np.repeat(label[chosen], repeats).astype(np.uint32),
        }
    )
    pq.write_table(table, path, compression="zstd")


def write_matrix(slide: SimulatedSlide, matrix: csr_matrix, path: Path) -> None:
    """Write ``cell_feature_matrix.h5`` in the 10x layout (one column per cell)."""
    import h5py

    panel = load_panel()
    ids = list(panel.ensembl) + [name for name, _ in panel.controls]
    kinds = ["Gene Expression"] * panel.n_genes + [kind for _, kind in panel.controls]
    with h5py.File(path, "w") as file:
        file.attrs["chemistry_description"] = "Simulated"
        file.attrs["filetype"] = "matrix"
        file.attrs["version"] = 2
        group = file.create_group("matrix")
        options = {"compression": "gzip", "compression_opts": 1}
        group.create_dataset("barcodes", data=slide.cell_ids.astype("S"), **options)
        group.create_dataset("data", data=matrix.data.astype(np.int32), **options)
        group.create_dataset("indices", data=matrix.indices.astype(np.int64), **options)
        group.create_dataset("indptr", data=matrix.indptr.astype(np.int64), **options)
        group.create_dataset("shape", data=np.array(matrix.shape[::-1], np.int32))
        features = group.create_group("features")
        features.create_dataset("id", data=np.array(ids, "S"))
        features.create_dataset("name", data=np.array(panel.features, "S"))
        features.create_dataset("feature_type", data=np.array(kinds, "S"))
        features.create_dataset("genome", data=np.array([_GENOME] * len(ids), "S"))
        features.create_dataset("_all_tag_keys", data=np.array(["genome"], "S"))


def write_clusters(slide: SimulatedSlide, matrix: csr_matrix, folder: Path) -> None:
    """Write clusters of the counts where the instrument puts its graph clusters."""
    genes = matrix[:, : load_panel().n_genes]
    cluster = cluster_cells(genes, len(CELL_TYPES), slide.settings.seed) + 1
    path = folder / "analysis" / "clustering" / "gene_expression_graphclust" / "clusters.csv"
    path.parent.mkdir(parents=True)
    _write_csv(path, {"Barcode": slide.cell_ids.tolist(), "Cluster": cluster})


def write_labels(slide: SimulatedSlide, path: Path) -> None:
    """Write ``labels.csv``: the true type of each cell."""
    groups = _named(slide.cell_type, np.array(CELL_TYPES))
    _write_csv(path, {"cell_id": slide.cell_ids.tolist(), "group": groups})


def write_true_states(slide: SimulatedSlide, path: Path) -> None:
    """Write ``truth_cells.parquet``: what was decided for each cell."""
    states = slide.states
    table = pa.table(
        {
            "cell_id": slide.cell_ids.tolist(),
            "cell_type": _named(slide.cell_type, np.array(CELL_TYPES)),
            "zone": _named(states.zone, np.array([zone.name.lower() for zone in Zone])),
            "structure": states.structure,
            "programme": states.programme,
            "decoy_programme": states.decoy_programme,
            "cycling": states.cycling,
        }
    )
    pq.write_table(table, path, compression="zstd")


def _write_csv(path: Path, columns: dict[str, Any]) -> None:
    options = pc.WriteOptions(quoting_style="needed")
    pc.write_csv(pa.table(columns), path, write_options=options)
