"""Differential gene pairs of stored slides: from a request to a table, a network and the facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from spatialformer_core import __version__, files
from spatialformer_core.arrays import BoolArray, GenePairs, LongArray
from spatialformer_core.config import FrozenModel, SampleMetadata, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.gene_pairs.settings import GenePairSettings
from spatialformer_core.progress import Cancel, Progress, check, never, silent, staged
from spatialformer_core.service.cooccurrence import (
    CELLS,
    FACTS,
    FORMAT,
    PAIRS,
    CooccurrenceSettings,
    write_cooccurrence,
)
from spatialformer_core.slides import SlideStore

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.gene_pairs import GenePairResult, Grouping, PairCells
    from spatialformer_core.slides import Slide

_STORED = "cooccurrence"


class GenePairRequest(FrozenModel):
    """What a comparison of stored slides is asked to do; stored with its result.

    Attributes
    ----------
    slide_ids
        The slides.
    groupby
        A grouping of the cells that every slide has, or what the slides differ by: donor, block,
        condition, tissue, species, assay.
    within
        Compare the cells of one group of another grouping only, ``(grouping, group)``: healthy
        against disease says more within one cell type than over a changing mix of types.
    settings
        How groups are compared.
    cooccurrence
        How co-occurrence is measured; measured once per slide and kept.
    """

    slide_ids: tuple[str, ...] = Field(min_length=1, max_length=256)
    groupby: str = Field(min_length=1, max_length=128)
    within: tuple[str, str] | None = None
    settings: GenePairSettings = GenePairSettings()
    cooccurrence: CooccurrenceSettings = CooccurrenceSettings()


def run_gene_pairs_job(
    params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel
) -> None:
    """Carry out a queued comparison; ``params`` is a `GenePairRequest` as JSON."""
    request = validate(GenePairRequest, params, "gene-pairs")
    store = SlideStore(files.home())
    run_gene_pairs(store, request, out, progress=progress, cancel=cancel)


def run_gene_pairs(
    store: SlideStore,
    request: GenePairRequest,
    out: Path,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> GenePairResult:
    """Compare groups of cells of stored slides and write the result into an existing folder.

    Raises
    ------
    SpatialFormerError
        If the slides, the grouping or its groups do not suffice.
    Cancelled
        If the user cancels.
    """
    from spatialformer_core.gene_pairs import compare_groups, join_cells, write_result

    if len(set(request.slide_ids)) < len(request.slide_ids):
        raise SpatialFormerError("A slide is named twice.", where=", ".join(request.slide_ids))
    slides = [store.open(slide_id) for slide_id in request.slide_ids]
    labels = [cell_labels(slide, request.groupby) for slide in slides]
    kept = [kept_cells(slide, request.within) for slide in slides]
    parts, nulls = [], []
    for number, slide in enumerate(slides):
        check(cancel)
        here = staged(progress, 0.6 * number / len(slides), 0.6 * (number + 1) / len(slides))
        folder = stored_cooccurrence(slide, request.cooccurrence, progress=here, cancel=cancel)
        parts.append(slide_cells(slide, folder, kept[number]))
        nulls.append(_null(folder))
    settings = request.settings.model_copy(update={"min_copies": request.cooccurrence.min_copies})
    cells = join_cells(parts)
    chosen = [names[mask] for names, mask in zip(labels, kept, strict=True)]
    result = compare_groups(
        cells,
        make_grouping(request.groupby, chosen),
        settings,
        progress=staged(progress, 0.6, 0.97),
        cancel=cancel,
    )
    _add_null(result.table, nulls)
    result.info["provenance"] = _provenance(slides, request)
    write_result(result, out)
    progress(1.0, 1.0, "Done")
    return result


def stored_cooccurrence(
    slide: Slide,
    settings: CooccurrenceSettings,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Path:
    """Return the folder with a slide's co-occurrence, measured unless it was before.

    It lies beside the slide, under a name that follows from the settings, the slide's time of
    ingest and the `FORMAT` of what is measured: a slide that was ingested again is measured
    again, and so is every slide once the search for communities gives something else.
    """
    folder = cooccurrence_folder(slide, settings)
    if not files.is_complete(folder):
        with files.atomic_directory(folder, replace=True) as partial:
            write_cooccurrence(slide, settings, partial, progress=progress, cancel=cancel)
    return folder


def cooccurrence_folder(slide: Slide, settings: CooccurrenceSettings) -> Path:
    """Return where a slide's co-occurrence lies once it is measured."""
    facts = [settings.model_dump(mode="json"), slide.meta.created, FORMAT]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return slide.user_folder / _STORED / digest[:16]


def cell_labels(slide: Slide, groupby: str) -> NDArray[np.str_]:
    """Return the group of every cell by name, empty for none, shape ``(n_cells,)``."""
    if groupby not in slide.group_keys and groupby in SampleMetadata.model_fields:
        value = str(getattr(slide.meta.sample, groupby))
        return np.full(slide.meta.n_cells, value)
    groups = slide.group(groupby)
    names = np.array([*groups.categories, ""])
    return names[np.asarray(groups.codes)]


def kept_cells(slide: Slide, within: tuple[str, str] | None) -> BoolArray:
    """Return the cells that pass QC and are of the group asked for, shape ``(n_cells,)``."""
    kept = np.array(slide.passes_qc)
    if within is None:
        return kept
    key, name = within
    chosen: BoolArray = kept & (cell_labels(slide, key) == name)
    if not chosen.any():
        raise SpatialFormerError(
            f"No cell of group {name[:60]!r} passes quality control.",
            where=f"{slide.meta.slide_id}, {key[:40]}",
            fix="Choose another group, or leave the slide out.",
        )
    return chosen


def make_grouping(key: str, labels: Sequence[NDArray[np.str_]]) -> Grouping:
    """Return the groups of the joined cells of all slides."""
    from spatialformer_core.gene_pairs import Grouping

    joined = np.concatenate(labels)
    categories = tuple(str(name) for name in np.unique(joined) if name)
    place = np.searchsorted(np.array(categories or [""]), joined)
    return Grouping(key, categories, np.where(joined == "", -1, place))


def slide_cells(slide: Slide, folder: Path, kept: BoolArray) -> PairCells:
    """Return the kept cells of one slide, counts and depth from the analysed transcripts."""
    from spatialformer_core.cooccurrence import pair_matrix
    from spatialformer_core.gene_pairs import PairCells
    from spatialformer_core.stats import Placed

    rows = np.flatnonzero(kept)
    matrix = pair_matrix(_read_pairs(slide, folder, rows), slide.genes)
    found = slide.transcripts_by_cell()
    n_genes = len(slide.genes)
    lengths = np.diff(found.indptr)
    cell = np.repeat(np.arange(len(lengths)), lengths)
    ones = np.ones(len(cell), np.int32)
    shape = (len(lengths), n_genes)
    counts = sparse.csr_matrix((ones, (cell, np.asarray(found.gene, np.int64))), shape=shape)[rows]
    column = {gene: number for number, gene in enumerate(slide.genes)}
    counts = counts[:, [column[gene] for gene in matrix.genes]]
    placed = Placed(
        slide=matrix.slide,
        xy_um=np.asarray(slide.xy_um, np.float64)[rows],
        slides=(slide.meta.slide_id,),
        donors=(slide.meta.sample.donor,),
    )
    return PairCells(matrix, counts, lengths[rows].astype(np.float64), placed)


def _read_pairs(slide: Slide, folder: Path, rows: LongArray) -> GenePairs:
    """Read the co-occurring pairs of some cells, rows of the slide, ascending."""
    import pyarrow.parquet as pq

    names = ["cell_id", "gene_left", "gene_right"]
    table = pq.read_table(folder / CELLS, read_dictionary=names)
    cells = {cell: row for row, cell in enumerate(slide.cell_ids[rows].tolist())}
    genes = {gene: column for column, gene in enumerate(slide.genes)}
    cell, left, right = (
        _codes(table.column(name), known)
        for name, known in zip(names, (cells, genes, genes), strict=True)
    )
    order = np.flatnonzero(cell >= 0)
    order = order[np.argsort(cell[order], kind="stable")]
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.bincount(cell[order], minlength=len(rows)), out=indptr[1:])
    return GenePairs(indptr, left[order].astype(np.int32), right[order].astype(np.int32))


def _codes(column: Any, known: dict[str, int]) -> LongArray:
    """Return the number of each name of a dictionary-encoded column, -1 where not known."""
    joined = column.unify_dictionaries().combine_chunks()
    chunks = getattr(joined, "chunks", [joined])
    parts = [np.zeros(0, np.int64)]
    for chunk in chunks:
        number = np.array([known.get(name, -1) for name in chunk.dictionary.to_pylist()], np.int64)
        parts.append(number[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def _null(folder: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(folder / PAIRS)


def _add_null(table: pd.DataFrame, nulls: Sequence[pd.DataFrame]) -> None:
    """Add what permuted labels give, summed over slides; cells are independent, so variances add.

    Where z is not given (too little is expected) the spread is not known, and the sum's neither.
    """
    import pandas as pd

    from spatialformer_core.cooccurrence import pair_name

    joined = pd.concat(nulls, ignore_index=True)
    if "expected" not in joined:
        return
    joined["pair"] = [
        pair_name(a, b) for a, b in zip(joined["gene_left"], joined["gene_right"], strict=True)
    ]
    joined["variance"] = ((joined["cells"] - joined["expected"]) / joined["z"]) ** 2
    total = joined.groupby("pair")[["cells", "expected"]].sum()
    variance = joined.groupby("pair")["variance"].sum(min_count=1)
    known = ~joined["z"].isna().groupby(joined["pair"]).any()
    excess = total["cells"] - total["expected"]
    z = (excess / np.sqrt(variance)).where(known & (variance > 0))
    for name, values in (("cells", total["cells"]), ("expected", total["expected"]), ("z", z)):
        table[f"null_{name}"] = table["pair"].map(values)


def _provenance(slides: Sequence[Slide], request: GenePairRequest) -> dict[str, Any]:
    return {
        "version": __version__,
        "request": request.model_dump(mode="json"),
        "slides": [
            {
                "slide_id": slide.meta.slide_id,
                "created": slide.meta.created,
                "simulated": slide.meta.simulated,
                "sample": slide.meta.sample.model_dump(),
                "qc": slide.meta.qc.model_dump(mode="json"),
                "cooccurrence": files.read_json(
                    stored_cooccurrence(slide, request.cooccurrence) / FACTS
                ),
            }
            for slide in slides
        ],
    }
