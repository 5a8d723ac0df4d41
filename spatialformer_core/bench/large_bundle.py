"""A Xenium output folder of any size from random numbers, to time ingest on.

Transcripts of all cells lie in random order over the whole file, which is the worst case for
locality: real files are ordered by field of view.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import DoubleArray, LongArray

_ROWS = 1_000_000
_PITCH_UM = 12.0
_N_TYPES = 12
_N_CONTROLS = 120
_OUTSIDE, _CONTROL = 0.06, 0.03
_MIN_QV = 20.0


@dataclass
class LargeBundle:
    """Cells on a jittered lattice, 6 % of the transcripts outside cells, 3 % of controls.

    Attributes
    ----------
    n_cells, n_transcripts, n_genes
        Sizes.
    """

    n_cells: int
    n_transcripts: int
    n_genes: int = 377
    seed: int = 0
    rng: np.random.Generator = field(init=False)
    xy_um: DoubleArray = field(init=False)
    cell_ids: list[str] = field(init=False)
    features: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        side = int(np.ceil(np.sqrt(self.n_cells)))
        lattice = np.stack(np.divmod(np.arange(self.n_cells), side), 1)[:, ::-1]
        jitter = self.rng.uniform(-2, 2, (self.n_cells, 2))
        self.xy_um = (lattice + 0.5) * _PITCH_UM + jitter
        letters = np.array(list("abcdefghijklmnop"))
        shifts = np.arange(28, -4, -4)
        digits = letters[(np.arange(self.n_cells)[:, None] >> shifts) & 15]
        self.cell_ids = [f"{''.join(row)}-1" for row in digits]
        self.features = [f"GENE{i:04d}" for i in range(self.n_genes)]
        self.features += [f"NegControlProbe_{i:05d}" for i in range(_N_CONTROLS)]

    def write(self, folder: Path) -> Path:
        """Write the folder, which appears whole."""
        with files.atomic_directory(folder) as partial:
            counts = self._transcripts(partial / "transcripts.parquet")
            self._matrix(partial / "cell_feature_matrix.h5", counts)
            self._cells(partial)
            text = {"pixel_size": 0.2125, "analysis_sw_version": "xenium-3.0.0.15"}
            with files.atomic_write(partial / "experiment.xenium", "w") as stream:
                json.dump({**text, "simulated": True}, stream)
        return folder

    def _transcripts(self, path: Path) -> LongArray:
        """Write the transcripts; return one key per counted one, ``cell * features + feature``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = pa.array([*self.cell_ids, "UNASSIGNED"])
        features = pa.array(self.features)
        kind = self.rng.integers(0, _N_TYPES, self.n_cells)
        cdf = np.cumsum(self.rng.dirichlet(np.full(self.n_genes, 0.3), _N_TYPES), 1)
        keys: list[LongArray] = []
        writer = None
        with files.atomic_write(path) as stream:
            for first in range(0, self.n_transcripts, _ROWS):
                n = min(_ROWS, self.n_transcripts - first)
                drawn = self._draw(n, kind, cdf)
                good = (drawn["qv"] >= _MIN_QV) & (drawn["cell"] < self.n_cells)
                keys.append(drawn["cell"][good] * len(self.features) + drawn["feature"][good])
                table = pa.table(
                    {
                        "cell_id": _taken(drawn["cell"], names),
                        "feature_name": _taken(drawn["feature"], features),
                        "x_location": drawn["xy"][:, 0].astype(np.float32),
                        "y_location": drawn["xy"][:, 1].astype(np.float32),
                        "z_location": self.rng.uniform(10, 20, n).astype(np.float32),
                        "qv": drawn["qv"],
                        "overlaps_nucleus": self.rng.integers(0, 2, n).astype(np.uint8),
                    }
                )
                writer = writer or pq.ParquetWriter(stream, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=_ROWS)
            if writer is not None:
                writer.close()
        return np.concatenate(keys)

    def _draw(self, n: int, kind: LongArray, cdf: DoubleArray) -> dict[str, Any]:
        rng = self.rng
        cell = rng.integers(0, self.n_cells, n)
        feature = np.empty(n, np.int64)
        share = rng.random(n)
        for one in range(_N_TYPES):
            here = np.flatnonzero(kind[cell] == one)
            feature[here] = np.minimum(np.searchsorted(cdf[one], share[here]), self.n_genes - 1)
        control = np.flatnonzero(rng.random(n) < _CONTROL)
        feature[control] = rng.integers(self.n_genes, len(self.features), len(control))
        xy = self.xy_um[cell] + rng.normal(0, 2.0, (n, 2))
        outside = np.flatnonzero(rng.random(n) < _OUTSIDE)
        xy[outside] = rng.uniform(0, self.xy_um.max(), (len(outside), 2))
        cell[outside] = self.n_cells
        return {
            "cell": cell,
            "feature": feature,
            "xy": xy,
            "qv": rng.uniform(8, 40, n).astype(np.float32),
        }

    def _matrix(self, path: Path, keys: LongArray) -> None:
        """Write the counts of the transcripts of sufficient quality, as the instrument does."""
        n_features = len(self.features)
        keys.sort()
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        row, column = np.divmod(keys[first], n_features)
        indptr = np.zeros(self.n_cells + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=self.n_cells), out=indptr[1:])
        kinds = ["Gene Expression"] * self.n_genes + ["Negative Control Probe"] * _N_CONTROLS
        with files.atomic_write(path) as stream, h5py.File(stream, "w") as store:
            group = store.create_group("matrix")
            group["barcodes"] = np.array(self.cell_ids, "S")
            group["data"] = np.diff(np.append(first, len(keys))).astype(np.int32)
            group["indices"], group["indptr"] = column, indptr
            group["shape"] = np.array((n_features, self.n_cells))
            features = group.create_group("features")
            features["name"] = features["id"] = np.array(self.features, "S")
            features["feature_type"] = np.array(kinds, "S")

    def _cells(self, folder: Path) -> None:
        import pyarrow as pa

        places = {"x_centroid": self.xy_um[:, 0], "y_centroid": self.xy_um[:, 1]}
        area = self.rng.uniform(40, 90, self.n_cells)
        _write(folder / "cells.parquet", {"cell_id": self.cell_ids, **places, "cell_area": area})
        for name, n_corners, radius_um in (("cell", 13, 5.0), ("nucleus", 9, 3.0)):
            angle = np.linspace(0, 2 * np.pi, n_corners)
            ring = np.stack([np.cos(angle), np.sin(angle)], 1) * radius_um
            vertices = (self.xy_um[:, None] + ring).reshape(-1, 2).astype(np.float32)
            owner = np.repeat(np.arange(self.n_cells), n_corners)
            columns = {
                "cell_id": _taken(owner, pa.array(self.cell_ids)),
                "vertex_x": vertices[:, 0],
                "vertex_y": vertices[:, 1],
            }
            _write(folder / f"{name}_boundaries.parquet", columns)


def _taken(codes: LongArray, values: Any) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), values).cast(
        pa.string()
    )


def _write(path: Path, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with files.atomic_write(path) as stream:
        pq.write_table(pa.table(columns), stream)
