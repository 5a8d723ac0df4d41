"""A small slide and an untrained checkpoint for the tests of the app.

40 x 40 cells on a 10 um grid, type by row and column:

    M T B M T B ...      M Macrophage, T T cell, B B cell
    T B M T B M ...      every cell has its two neighbours of each other type within 10 um
    B M T B M T ...

Every cell has 3 to 5 copies of GENE00-GENE11 (so all of them pass QC and all gene pairs reach
support); the cells of the last row have GENE00 alone and fail.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIDE, PITCH_UM = 40, 10.0
TYPES = ("B cell", "Macrophage", "T cell")
GENES = [f"GENE{i:02d}" for i in range(14)]
N_EXPRESSED = 12
SAMPLE = {
    "donor": "P1",
    "block": "1",
    "condition": "Disease",
    "tissue": "Lung",
    "species": "Human",
    "assay": "Xenium",
}


def tissue() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions (um), types (codes) and counts of the cells."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    xy = np.stack([column, row], axis=1) * PITCH_UM + PITCH_UM / 2
    types = (1 + row + column) % 3
    counts = np.zeros((len(xy), len(GENES)), np.int32)
    counts[:, :N_EXPRESSED] = 3 + (row + column)[:, None] % 2 + np.arange(N_EXPRESSED) % 2
    counts[row == SIDE - 1, 1:] = 0
    return xy, types, counts


def write_source(folder: Path) -> Path:
    """Write the tissue as a table folder."""
    import anndata
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    xy, types, counts = tissue()
    ids = [f"cell-{i}" for i in range(len(xy))]
    labels = pd.Categorical([TYPES[t] for t in types], categories=TYPES)
    table = anndata.AnnData(
        counts, obs=pd.DataFrame({"cell_type": labels}, index=ids), var=pd.DataFrame(index=GENES)
    )
    table.obsm["spatial"] = xy
    table.write_h5ad(folder / "cells.h5ad")
    cell, gene = np.nonzero(counts)
    copies = counts[cell, gene]
    cell, gene = np.repeat(cell, copies), np.repeat(gene, copies)
    place = xy[cell] + np.random.default_rng(0).uniform(-4, 4, (len(cell), 2))
    columns = {
        "cell_id": [ids[i] for i in cell],
        "feature_name": [GENES[i] for i in gene],
        "x_location": place[:, 0],
        "y_location": place[:, 1],
    }
    pq.write_table(pa.table(columns), folder / "transcripts.parquet")
    return folder


def write_checkpoint(folder: Path) -> None:
    """Write an untrained two-tower checkpoint that knows the panel; marked as simulated."""
    import torch
    from scipy import sparse

    from spatialformer_core.config import SampleMetadata
    from spatialformer_core.model import build, preset_config, save_checkpoint
    from spatialformer_core.vocabulary import build_vocabulary

    _, _, counts = tissue()
    panel = (GENES, sparse.csr_matrix(counts))
    vocabulary = build_vocabulary([panel], [SampleMetadata(**SAMPLE)])
    torch.manual_seed(0)
    model = build(preset_config("two-tower", "tiny", len(vocabulary.tokens)))
    provenance = {"simulated": True, "trained_on": [], "name": "untrained"}
    save_checkpoint(folder, model, vocabulary, provenance, "# Untrained\nFor tests only.\n")
