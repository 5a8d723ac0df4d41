"""The result folder: table, network, facts and notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.gene_pairs.compare import GenePairResult

COLUMNS: dict[str, str] = {
    "pair": "name of the pair: both genes in alphabetical order, joined by |",
    "gene_left": "the first gene",
    "gene_right": "the second gene",
    "group": "the group of cells",
    "reference": "what it is compared with; rest = all other labelled cells",
    "cells_group": "cells of the group in the units used (of slides whose panel has both genes)",
    "cells_reference": "cells of the reference in the units used",
    "cells_with_pair": "of these, cells of either side in which the pair co-occurs",
    "share_group": "raw share of the group's cells with the pair",
    "share_reference": "raw share of the reference's cells with the pair",
    "odds_ratio": "of these shares, half a cell added everywhere",
    "adjusted_group": "share at the depth of all compared cells, mean of units",
    "adjusted_reference": "the same of the reference",
    "effect": "difference of the adjusted shares, mean of units: what is tested",
    "low": "lower end of its 95 % interval over units",
    "high": "upper end of its 95 % interval over units",
    "t": "moderated t over units",
    "df": "degrees of freedom",
    "p": "two-sided p; empty where there are too few units, 1 where too few cells with the pair "
    "are in the smaller group, and would be expected there, to tell",
    "q": "Benjamini-Hochberg over all pairs and comparisons",
    "n_units": "replicate units",
    "closeness_gain": "the same difference among cells with enough copies of both genes, adjusted "
    "for the numbers of copies: what closeness adds",
    "closeness_low": "lower end of its 95 % interval over units",
    "closeness_high": "upper end of its 95 % interval over units",
    "closeness_p": "two-sided p; empty where too few units hold such cells of both sides",
    "closeness_q": "Benjamini-Hochberg over all pairs and comparisons",
    "closeness_n_units": "units with at least 5 such cells of both sides",
    "both_group": "cells of the group with enough copies of both genes, wherever they lie",
    "both_reference": "the same of the reference",
    "d2_left": "share of deviance of the group explained by the left gene's copies",
    "d2_right": "by the right gene's copies",
    "d2_genes": "by both genes' copies, added",
    "d2_genes_both": "by both genes' copies and whether both are there in number",
    "d2_genes_pair": "by both genes' copies and whether they co-occur",
    "auroc_left": "how well the left gene's copies rank the group's cells (0.5 = not at all)",
    "auroc_right": "the right gene's copies",
    "auroc_genes": "both genes' copies, added",
    "auroc_genes_both": "both genes' copies and whether both are there in number",
    "auroc_genes_pair": "both genes' copies and whether they co-occur",
    "auroc_pair": "co-occurrence alone",
    "r_min": "correlation over all cells of co-occurrence with the rarer gene's copies",
    "r_sum": "correlation over all cells of co-occurrence with the copies of both",
    "null_cells": "cells in which the pair co-occurs, all cells analysed",
    "null_expected": "the same with gene labels permuted over fixed positions",
    "null_z": "how far beyond chance, in standard deviations",
    "variability": "share of the variance beyond depth that the pair shares with other pairs",
    "percell_score": "published way: scanpy's t over cells",
    "percell_p": "published way: p over cells, not a tissue-level p-value",
    "percell_q": "published way: adjusted within the comparison",
}
"""Columns of the table, in order, and what they mean."""

TABLE, CSV, FACTS = "gene_pairs.parquet", "gene_pairs.csv", "gene_pairs.json"
NETWORK, NOTES = "network.graphml", "NOTES.txt"


def write_result(result: GenePairResult, folder: Path) -> None:
    """Write table (Parquet and CSV), network (GraphML), facts and notes into an existing folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from spatialformer_core.gene_pairs.network import network, write_network

    arrow = pa.Table.from_pandas(result.table, preserve_index=False)
    words = [result.info["verdict"], result.info["closeness_verdict"], *result.info["marks"]]
    metadata = {**(arrow.schema.metadata or {}), b"spatialformer": "\n".join(words).encode()}
    with files.atomic_write(folder / TABLE) as stream:
        pq.write_table(arrow.replace_schema_metadata(metadata), stream)
    with files.atomic_write(folder / CSV, "w") as stream:
        result.table.to_csv(stream, index=False)
    write_network(network(result), folder / NETWORK)
    files.write_json(folder / FACTS, result.info)
    columns = [f"{name}: {meaning}" for name, meaning in COLUMNS.items()]
    with files.atomic_write(folder / NOTES, "w") as stream:
        stream.write("\n\n".join([*words, result.info["methods"], "\n".join(columns)]) + "\n")


def read_result(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return table and facts of a finished comparison.

    Raises
    ------
    SpatialFormerError
        If the folder holds none.
    """
    import pandas as pd

    for name in (TABLE, FACTS):
        if not (folder / name).is_file():
            raise SpatialFormerError("This is no result of gene-pairs.", where=f"{name} is missing")
    return pd.read_parquet(folder / TABLE), files.read_json(folder / FACTS)
