"""A tiny table folder: 6 x 10 cells on a 10 um grid, three types, one gene per type."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.service import open_services

GENES = [f"GENE{i}" for i in range(9)] + ["MARK"]
TYPES = ("A", "B", "C")
SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)
QC = QcThresholds(min_transcripts=10, min_genes=3)


def counts_of(cell):
    """Row of counts: 20 of three genes, but cells 0-9 (the bottom row) have 4 of one gene."""
    row = np.zeros(len(GENES), np.int32)
    if cell < 10:
        row[0] = 4
    else:
        row[[0, 1, 2]] = (10, 6, 4)
        row[9] = 3 * (cell % 3 == 0)  # MARK: three copies in type A only
    return row


@pytest.fixture(scope="session")
def table_folder(tmp_path_factory):
    import anndata
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("sources") / "tiny"
    folder.mkdir()
    n = 60
    xy = np.stack([np.arange(n) % 10 * 10.0 + 5, np.arange(n) // 10 * 10.0 + 5], axis=1)
    counts = np.stack([counts_of(cell) for cell in range(n)])
    ids = [f"cell-{i}" for i in range(n)]
    obs = pd.DataFrame({"cell_type": pd.Categorical([TYPES[i % 3] for i in range(n)])}, index=ids)
    table = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES))
    table.obsm["spatial"] = xy
    table.write_h5ad(folder / "cells.h5ad")
    cell, gene = np.nonzero(counts)
    cell, gene = (np.repeat(a, counts[cell, gene]) for a in (cell, gene))
    offset = np.random.default_rng(0).uniform(-4, 4, (len(cell), 2))
    columns = {
        "cell_id": [ids[i] for i in cell],
        "feature_name": [GENES[i] for i in gene],
        "x_location": (xy[cell] + offset)[:, 0],
        "y_location": (xy[cell] + offset)[:, 1],
    }
    pq.write_table(pa.table(columns), folder / "transcripts.parquet")
    return folder


@pytest.fixture(scope="session")
def ingested(tmp_path_factory, table_folder):
    """A home folder with the tiny slide, to be copied."""
    from spatialformer_core.slides import SlideStore, ingest

    folder = tmp_path_factory.mktemp("ingested")
    ingest(table_folder, SlideStore(folder), name="Tiny", sample=SAMPLE, qc=QC)
    return folder


@pytest.fixture
def home(tmp_path, table_folder):
    """A home folder that allows the folder above the tiny source."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"slide_roots: [{table_folder.parent}]\n")
    return folder


@pytest.fixture
def services(home, ingested):
    """Services with the tiny slide in the store."""
    shutil.copytree(ingested / "slides", home / "slides")
    return open_services(home)
