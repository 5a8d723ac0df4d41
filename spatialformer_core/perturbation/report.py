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
    "epsilon_low": "lower end of the 95 % interval of epsilon",
    "epsilon_high": "upper end of the 95 % interval of epsilon",
    "epsilon_t": "moderated t of epsilon over units",
    "epsilon_df": "degrees of freedom",
    "kind": "where epsilon_q < 0.05: `joint requirement` (epsilon > 0, d_diff < 0: losing either "
    "gene is enough), `redundancy` (epsilon < 0: only losing both costs the whole) or `other`",
    "units_agree": "share of units whose effect has the sign of d_diff; empty where the two sides "
    "of --versus lie in different units",
    "ligand": "which gene is the ligand of a known ligand-receptor pair: left, right or both",
    "n_checkpoints": "checkpoints that tested the gene pair in the same screen",
    "agree": "share of them whose effect has the sign that most give it (three at least)",
    "d_raw": "d_diff as it is, without subtracting the effect of control knock-outs",
    "epsilon_raw": "the same of epsilon",
    "d_controlled": "d_diff less the effect of control knock-outs; empty without controls",
    "epsilon_controlled": "the same of epsilon",
    "probability": "near minus far change of the pair probability, both genes knocked out, less "
    "that of the controls if there are any",
    "scope": "how far the row reaches: `describes this section only`, or the number of donors",
}
"""Columns of the table, in order, and what they mean; the first 24 never change."""

ONE_DONOR = "describes this section only"
"""What one donor's table, plot and file says in every row."""

TABLE, CSV, FACTS, NOTES = "pairs.parquet", "pairs.csv", "screen.json", "NOTES.txt"
CELL_PAIRS, GENE_SETS, LIANA = "cell_pairs.parquet", "gene_sets", "liana"


@dataclass(frozen=True, slots=True)
class ScreenResult:
    """A finished screen.

    Attributes
    ----------
    table
        One row per tested gene pair, `COLUMNS`.
    info
        What ``screen.json`` holds.
    pairs
        The cell pairs, `interpret.cell_pairs`.
    enriched
        Gene sets, `enrichment.COLUMNS`; None if none were given.
    liana
        Ranks beside liana's, `liana_ranks.liana_ranks`; None where liana was not asked.
    """

    table: pd.DataFrame
    info: dict[str, Any]
    pairs: pd.DataFrame | None = None
    enriched: pd.DataFrame | None = None
    liana: pd.DataFrame | None = None


def write_result(result: ScreenResult, folder: Path) -> None:
    """Write table (Parquet and CSV), facts and notes into an existing folder.

    What a result does not say (one donor, a simulated checkpoint) is in every Parquet's metadata,
    in the facts and in the notes; the reach stands in a column of its own in every CSV.
    """
    marks = "\n".join([result.info["verdict"], *result.info["marks"]])
    _write_table(result.table, folder / TABLE, marks)
    with files.atomic_write(folder / CSV, "w") as stream:
        result.table.to_csv(stream, index=False)
    if result.pairs is not None:
        _write_table(result.pairs, folder / CELL_PAIRS, marks)
    for beside, name in ((result.enriched, GENE_SETS), (result.liana, LIANA)):
        if beside is not None:
            _write_table(beside, folder / f"{name}.parquet", marks)
            with files.atomic_write(folder / f"{name}.csv", "w") as stream:
                beside.to_csv(stream, index=False)
    files.write_json(folder / FACTS, result.info)
    with files.atomic_write(folder / NOTES, "w") as stream:
        stream.write("\n\n".join([*marks.split("\n"), result.info["methods"]]) + "\n")


def _write_table(table: pd.DataFrame, path: Path, marks: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), b"spatialformer": marks.encode()}
    with files.atomic_write(path) as stream:
        pq.write_table(arrow.replace_schema_metadata(metadata), stream)


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
    optional = (CELL_PAIRS, f"{GENE_SETS}.parquet", f"{LIANA}.parquet")
    beside = [
        pd.read_parquet(folder / name) if (folder / name).is_file() else None for name in optional
    ]
    table = pd.read_parquet(folder / TABLE)
    return ScreenResult(table, files.read_json(folder / FACTS), *beside)
