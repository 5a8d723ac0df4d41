"""The published way beside ours: scanpy's test on the cells x pairs matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatialformer_core.cooccurrence import PairMatrix

_ONE, _OTHER = "group", "reference"


def per_cell_test(matrix: PairMatrix, side: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    """Return ``scanpy.tl.rank_genes_groups`` (t-test) over cells, in the order of the pairs.

    Its replicate is the cell, so its p-values are not about the tissue: they grow ever smaller
    with more cells of the same piece. It is here for comparison only.

    Parameters
    ----------
    matrix
        The pairs.
    side
        0 group, 1 reference, -1 neither, shape ``(n_cells,)``.
    """
    import anndata
    import pandas as pd
    import scanpy

    used = np.flatnonzero(side >= 0)
    names = [_ONE if value == 0 else _OTHER for value in side[used]]
    obs = pd.DataFrame(
        {"side": pd.Categorical(names, [_ONE, _OTHER])}, index=[str(i) for i in used]
    )
    # The test does not depend on the scale. Halves keep scanpy from asking for logarithms, which
    # would matter for its fold changes only; these are not used.
    halves = matrix.presence[used].astype(np.float32) * np.float32(0.5)
    table = anndata.AnnData(halves, obs=obs, var=pd.DataFrame(index=matrix.names))
    scanpy.tl.rank_genes_groups(
        table, "side", groups=[_ONE], reference=_OTHER, method="t-test", use_raw=False
    )
    found = scanpy.get.rank_genes_groups_df(table, _ONE).set_index("names")
    found = found.loc[list(matrix.names)]
    return {
        "percell_score": found["scores"].to_numpy(np.float64),
        "percell_p": found["pvals"].to_numpy(np.float64),
        "percell_q": found["pvals_adj"].to_numpy(np.float64),
    }
