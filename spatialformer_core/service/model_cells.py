"""Cells that a model is asked about: a slide of the store, or an AnnData file of any origin.

Rows are put into the order of the cells' names, so that nothing depends on the order of a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from spatialformer_core import __version__, files
from spatialformer_core.arrays import BoolArray, DoubleArray, LongArray
from spatialformer_core.config import FrozenModel, QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.settings import load_config, source_roots
from spatialformer_core.service.sources import source_path
from spatialformer_core.service.vocabularies import shipped_names
from spatialformer_core.slides import SlideStore
from spatialformer_core.vocabulary import map_genes

if TYPE_CHECKING:
    from spatialformer_core.inference import ModelInput
    from spatialformer_core.io import Groups
    from spatialformer_core.model import Checkpoint
    from spatialformer_core.slides import Slide


class ModelCellsRequest(FrozenModel):
    """Which cells a model is asked about; stored with the result.

    Attributes
    ----------
    slide_id
        A slide of the store.
    source_id
        Or an AnnData file below an allowed folder (`Services.sources`); coordinates are not needed.
    checkpoint_id
        The model.
    meta
        ``given``, or ``masked``: condition, tissue, species and assay hidden from the model.
    sample
        What the cells of a file are; a slide knows its own.
    ignore_case
        Whether gene names that differ in letter case alone are the same gene (mouse and human).
    allow_simulated
        Accept a checkpoint trained on simulated tissue for real cells; the result is marked.
    """

    slide_id: str | None = Field(default=None, min_length=1, max_length=128)
    source_id: str | None = Field(default=None, min_length=1, max_length=128)
    checkpoint_id: str = Field(min_length=1, max_length=256)
    meta: Literal["given", "masked"] = "given"
    sample: SampleMetadata | None = None
    ignore_case: bool = False
    allow_simulated: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> ModelCellsRequest:
        if self.slide_id is not None and self.source_id is not None:
            raise ValueError("slide_id and source_id exclude each other")
        if self.slide_id is not None and self.sample is not None:
            raise ValueError("a slide knows its own sample")
        return self


@dataclass(frozen=True, slots=True)
class ModelCells:
    """Cells in the order of their names.

    Attributes
    ----------
    name
        Id of the slide, or name of the file.
    slide
        The slide; None for a file.
    order
        Row of the slide or file of each cell, shape ``(n,)``.
    cell_ids, counts, passes_qc
        Names, raw counts (CSR) and quality control, in that order.
    genes, gene_ids
        One per column of the counts; ids None where there are none.
    xy_um
        Centroids, shape ``(n, 2)``; None for dissociated cells.
    groups
        Groupings of the cells, in that order.
    sample
        What they are; None if nobody said.
    """

    name: str
    slide: Slide | None
    order: LongArray
    cell_ids: Any
    counts: Any
    passes_qc: BoolArray
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...] | None
    xy_um: DoubleArray | None
    groups: dict[str, Groups]
    sample: SampleMetadata | None

    @property
    def simulated(self) -> bool:
        """Whether the cells are known to be simulated."""
        return self.slide is not None and self.slide.meta.simulated

    def group(self, key: str) -> Groups:
        """Return one grouping.

        Raises
        ------
        SpatialFormerError
            If there is none of that name.
        """
        if key not in self.groups:
            raise SpatialFormerError(
                f"There is no grouping {key[:60]!r}.",
                where=self.name,
                fix=f"Groupings: {', '.join(list(self.groups)[:40]) or 'none'}.",
            )
        return self.groups[key]


def open_cells(store: SlideStore, request: ModelCellsRequest) -> ModelCells:
    """Return the cells that a request names.

    Raises
    ------
    SpatialFormerError
        If there is no such slide or source, or it cannot be read.
    """
    if request.slide_id is not None:
        return cells_of_slide(store.open(request.slide_id))
    if request.source_id is None:
        raise SpatialFormerError("Neither a slide nor a source is named.")
    home = store.root.parent
    roots = source_roots(home, load_config(home))
    return cells_of_file(source_path(roots, request.source_id), request.sample)


def cells_of_slide(slide: Slide) -> ModelCells:
    """Return the cells of a stored slide."""
    order = np.argsort(np.asarray(slide.cell_ids), kind="stable")
    return ModelCells(
        name=slide.meta.slide_id,
        slide=slide,
        order=order,
        cell_ids=np.asarray(slide.cell_ids)[order],
        counts=slide.counts[order],
        passes_qc=np.asarray(slide.passes_qc)[order],
        genes=slide.genes,
        gene_ids=slide.gene_ids,
        xy_um=np.asarray(slide.xy_um, np.float64)[order],
        groups={key: _reordered(slide.group(key), order) for key in slide.group_keys},
        sample=slide.meta.sample,
    )


def cells_of_file(path: Path, sample: SampleMetadata | None) -> ModelCells:
    """Return the cells of an AnnData file, read through the guard.

    Raises
    ------
    SpatialFormerError
        If it is none, is refused by the guard, or holds no raw counts.
    """
    from spatialformer_core.io import read_expression
    from spatialformer_core.slides.thresholds import passing_cells

    if path.suffix != ".h5ad" or not path.is_file():
        raise SpatialFormerError(
            "It is no .h5ad file.", path.name, "Other sources are ingested first, then named by id."
        )
    found = read_expression(path.resolve())
    order = np.argsort(found.cell_ids, kind="stable")
    counts = found.counts[order]
    n_counts = np.asarray(counts.sum(1)).ravel().astype(np.int64)
    n_genes = np.asarray((counts > 0).sum(1)).ravel().astype(np.int64)
    return ModelCells(
        name=path.name,
        slide=None,
        order=order,
        cell_ids=found.cell_ids[order],
        counts=counts,
        passes_qc=passing_cells(n_counts, n_genes, QcThresholds()),
        genes=found.genes,
        gene_ids=found.gene_ids,
        xy_um=None if found.xy_um is None else found.xy_um[order],
        groups={key: _reordered(groups, order) for key, groups in found.groups.items()},
        sample=sample,
    )


def _reordered(groups: Groups, order: LongArray) -> Groups:
    return type(groups)(groups.categories, np.asarray(groups.codes)[order])


def shown_to(
    cells: ModelCells, checkpoint: Path, request: ModelCellsRequest
) -> tuple[Checkpoint, ModelInput]:
    """Return a checkpoint and the cells as it reads them.

    Raises
    ------
    SpatialFormerError
        If the checkpoint cannot be read, knows too little of the genes, or is simulated and the
        cells are not (unless that is allowed).
    """
    from spatialformer_core.inference import Panel, model_input, require_coverage
    from spatialformer_core.model import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    name = f"Checkpoint {loaded.name!r}"
    if loaded.simulated and not cells.simulated and not request.allow_simulated:
        raise SpatialFormerError(
            f"{name} was trained on simulated tissue and says nothing about real cells.",
            fix="Choose a checkpoint trained on real tissue, or allow it knowingly; the result is "
            "then marked.",
        )
    names = shipped_names(ignore_case=request.ignore_case)
    if cells.slide is not None:
        known = map_genes(cells.genes, loaded.vocabulary.genes, names, cells.gene_ids)
        require_coverage(name, loaded.vocabulary, known.names)
    panel = Panel(cells.genes, cells.gene_ids, names, cells.sample)
    data = model_input(cells.counts, panel, loaded.vocabulary, name=name, meta=request.meta)
    return loaded, data


def provenance(
    cells: ModelCells, loaded: Checkpoint, data: ModelInput, request: ModelCellsRequest
) -> dict[str, Any]:
    """Return what was asked about what with what, JSON."""
    facts: dict[str, Any] = {
        "version": __version__,
        "cells": cells.name,
        "n_cells": len(cells.cell_ids),
        "n_cells_kept": int(cells.passes_qc.sum()),
        "created": None if cells.slide is None else cells.slide.meta.created,
        "sample": None if cells.sample is None else cells.sample.model_dump(),
        "request": request.model_dump(mode="json"),
        "input": data.facts,
        "checkpoint": {
            "name": loaded.name,
            "id": loaded.id,
            "architecture": loaded.config.architecture,
            "simulated": loaded.simulated,
            "vocabulary": loaded.vocabulary.fingerprint,
        },
        "marks": [],
    }
    if loaded.simulated and not cells.simulated:
        facts["marks"].append("SIMULATED CHECKPOINT on real cells")
    return facts


def write_table(path: Path, frame: Any) -> None:
    """Write a DataFrame as Parquet, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    with files.atomic_write(path) as stream:
        pq.write_table(table, stream, compression="zstd")


def read_result_table(folder: Path, name: str) -> Any:
    """Read a table of a finished result as a DataFrame.

    Raises
    ------
    SpatialFormerError
        If the folder holds no such result.
    """
    import pandas as pd

    if not (folder / name).is_file():
        raise SpatialFormerError(f"The folder holds no {name}.", where=folder.name)
    return pd.read_parquet(folder / name)
