"""The result folder of a screen: the table, the facts, and what to make of them in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialformer_core import files
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: dict[str, str] = {
    "gene_left": "gene knocked out in the cell of the left type",
    "gene_right": "gene knocked out in the cell of the right type",
    "n_pairs": "near cell pairs that carry both genes",
    "n_units": "replicate units in which the gene pair reaches the support threshold",
    "d_near": "mean change of the pair logit over near cell pairs, both genes knocked out; a cell "
    "pair that lacks one of them counts as 0; mean of units",
    "d_far": "the same over matched far cell pairs of the same types",
    "d_diff": "d_near - d_far, mean of units: the effect that is tested",
    "d_low": "lower end of its 95 % interval",
    "d_high": "upper end of its 95 % interval",
    "t": "moderated t of d_diff over units",
    "df": "degrees of freedom",
    "p": "two-sided p of d_diff",
    "q": "Benjamini-Hochberg over all tested gene pairs",
    "epsilon": "interaction: d_diff beyond what the two genes do alone "
    "(d_diff = epsilon + d_left + d_right)",
    "epsilon_p": "two-sided p of epsilon over units",
    "epsilon_q": "Benjamini-Hochberg over all tested gene pairs",
    "d_left": "near minus far effect of the left gene alone, in cell pairs that carry both",
    "d_right": "near minus far effect of the right gene alone, in cell pairs that carry both",
    "rank_left": "mean expression rank of the left gene in its cell (1 is highest)",
    "rank_right": "mean expression rank of the right gene in its cell (1 is highest)",
    "is_ligand_receptor": "known ligand-receptor pair",
    "co_occurs": "the two genes' transcripts lie together inside single cells of these types",
    "spillover": "a gene of the pair spilled over from neighbours into the type in which it is "
    "knocked out; empty where contact with the type that expresses it explains its counts as well",
    "in_sample": "some of the near cell pairs hold cells that the checkpoint was trained on",
}
"""Columns of the table, in order, and what they mean."""

TABLE, CSV, FACTS, NOTES = "pairs.parquet", "pairs.csv", "screen.json", "NOTES.txt"


@dataclass(frozen=True, slots=True)
class ScreenResult:
    """A finished screen.

    Attributes
    ----------
    table
        One row per tested gene pair, `COLUMNS`.
    info
        What ``screen.json`` holds.
    """

    table: pd.DataFrame
    info: dict[str, Any]


def write_result(result: ScreenResult, folder: Path) -> None:
    """Write table (Parquet and CSV), facts and notes into an existing folder.

    The marks (simulated checkpoint, one donor) cannot stand in the CSV, whose columns are fixed;
    they are in the Parquet's metadata, in the facts and in the notes beside it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(result.table, preserve_index=False)
    marks = "\n".join([result.info["verdict"], *result.info["marks"]])
    metadata = {**(arrow.schema.metadata or {}), b"spatialformer": marks.encode()}
    with files.atomic_write(folder / TABLE) as stream:
        pq.write_table(arrow.replace_schema_metadata(metadata), stream)
    with files.atomic_write(folder / CSV, "w") as stream:
        result.table.to_csv(stream, index=False)
    files.write_json(folder / FACTS, result.info)
    with files.atomic_write(folder / NOTES, "w") as stream:
        stream.write("\n\n".join([*marks.split("\n"), result.info["methods"]]) + "\n")


def read_result(folder: Path) -> ScreenResult:
    """Read a finished screen.

    Raises
    ------
    SpatialFormerError
        If the folder holds none.
    """
    import pandas as pd

    for name in (TABLE, FACTS):
        if not (folder / name).is_file():
            raise SpatialFormerError("This is no result of a screen.", where=f"{name} is missing")
    return ScreenResult(pd.read_parquet(folder / TABLE), files.read_json(folder / FACTS))
