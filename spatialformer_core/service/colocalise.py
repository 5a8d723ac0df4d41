"""Predicted neighbours of stored slides and AnnData files, by type, beside the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Cancel, Progress, check, never, silent, staged
from spatialformer_core.service.checkpoints import checkpoint_folder
from spatialformer_core.service.model_cells import (
    ModelCells,
    ModelCellsRequest,
    open_cells,
    provenance,
    read_result_table,
    shown_to,
    write_table,
)
from spatialformer_core.service.query_cells import (
    exposed,
    in_regions,
    of_types,
    require_queries,
)
from spatialformer_core.slides import SlideStore

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.inference import Colocalisation, ColocaliseSettings, Subject
    from spatialformer_core.model import Checkpoint

PAIRS, TYPES, DIFFERENCES, EDGES = (
    f"{name}.parquet" for name in ("pairs", "types", "differences", "edges")
)
FACTS = "colocalisation.json"
_CANDIDATES = ("radius_um", "reach_um", "n_ring", "n_far", "n_sample", "seed")


class ColocaliseRequest(ModelCellsRequest):
    """What is asked; stored with its result. See `inference.ColocaliseSettings`.

    Attributes
    ----------
    groupby
        Grouping with the types; None takes the slide's default.
    cells
        ``held_out``: only cells that the checkpoint was neither trained nor selected on, with a
        prior of type pairs learnt on those that it was. ``all``: all that pass quality control.
        ``auto``: held out where the slide took part in training and its blocks are known.
    roi_ids
        Saved regions of the slide whose cells ask; none: the whole slide. Candidates lie anywhere.
    query_types
        Types that ask; none: all.
    """

    groupby: str | None = Field(default=None, min_length=1, max_length=128)
    cells: Literal["auto", "all", "held_out"] = "auto"
    roi_ids: tuple[str, ...] = Field(default=(), max_length=200)
    query_types: tuple[str, ...] = Field(default=(), max_length=1_000)
    k: int = Field(default=20, ge=1, le=10_000)
    threshold: float | None = Field(default=None, ge=0, le=1)
    n_queries: int = Field(default=2_000, ge=1, le=1_000_000)
    radius_um: float = Field(default=30.0, gt=0)
    reach_um: float = Field(default=300.0, gt=0)
    n_ring: int | None = Field(default=None, ge=1)
    n_far: int = Field(default=300, ge=0, le=100_000)
    n_sample: int = Field(default=2_000, ge=1, le=100_000)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _regions_lie_on_slides(self) -> ColocaliseRequest:
        if self.roi_ids and self.slide_id is None:
            raise ValueError("regions lie on a slide")
        return self


@dataclass(frozen=True, slots=True)
class ColocalisationView:
    """A finished co-localisation for a page.

    Attributes
    ----------
    pairs, types, differences
        As in `inference.type_tables.TypeTables`, with a column ``candidates``: ``slide``,
        ``reach``, or ``cells`` for dissociated ones.
    edges
        Single neighbours of some cells: ``cell_id neighbour_id type neighbour_type score predicted
        true`` and, with coordinates, ``x_um y_um neighbour_x_um neighbour_y_um distance_um``.
    info
        See ``colocalisation.json``.
    """

    pairs: pd.DataFrame
    types: pd.DataFrame
    differences: pd.DataFrame
    edges: pd.DataFrame
    info: dict[str, Any]


def run_colocalise_job(
    params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel
) -> None:
    """Carry out a queued co-localisation; ``params`` is a `ColocaliseRequest` as JSON."""
    request = validate(ColocaliseRequest, params, "colocalise")
    folder = checkpoint_folder(files.home(), request.checkpoint_id)
    cells = open_cells(SlideStore(files.home()), request)
    run_colocalisation(cells, request, folder, out, progress=progress, cancel=cancel)


def run_colocalisation(
    cells: ModelCells,
    request: ColocaliseRequest,
    checkpoint: Path,
    out: Path,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> ColocalisationView:
    """Predict neighbours, tabulate them by type and write everything into an existing folder.

    Raises
    ------
    SpatialFormerError
        If there is no grouping, no cell was held out, or the checkpoint cannot read the cells.
    Cancelled
        If the user cancels.
    """
    from spatialformer_core.inference import (
        colocalisation_facts,
        colocalise,
        joined_tables,
        make_scorer,
    )

    progress(0.0, 1.0, "Reading the checkpoint and the cells")
    groupby = _groupby(cells, request)
    cells.group(groupby)
    loaded, data = shown_to(cells, checkpoint, request)
    check(cancel)
    settings = _settings(request)
    subject, words = _subject(cells, data.cells, loaded, (request, groupby))
    result = colocalise(
        subject,
        make_scorer(loaded),
        settings,
        progress=staged(progress, 0.05, 0.98),
        cancel=cancel,
    )
    facts = provenance(cells, loaded, data, request) | colocalisation_facts(result, settings)
    facts |= {"groupby": groupby, "exposure": words}
    tables = joined_tables(result)
    edges = _edges(cells, result, subject)
    view = ColocalisationView(tables["pairs"], tables["types"], tables["differences"], edges, facts)
    for name, frame in zip((PAIRS, TYPES, DIFFERENCES, EDGES), _frames(view), strict=True):
        write_table(out / name, frame)
    files.write_json(out / FACTS, facts)
    progress(1.0, 1.0, "Done")
    return view


def colocalisation_result(folder: Path) -> ColocalisationView:
    """Read a finished co-localisation.

    Raises
    ------
    SpatialFormerError
        If the folder holds none.
    """
    pairs, types, differences, edges = (
        read_result_table(folder, name) for name in (PAIRS, TYPES, DIFFERENCES, EDGES)
    )
    info = files.read_json(folder / FACTS)
    return ColocalisationView(pairs, types, differences, edges, info)


def _frames(view: ColocalisationView) -> tuple[pd.DataFrame, ...]:
    return view.pairs, view.types, view.differences, view.edges


def _groupby(cells: ModelCells, request: ColocaliseRequest) -> str:
    default = None if cells.slide is None else cells.slide.meta.default_group
    groupby = request.groupby or default
    if groupby is None:
        raise SpatialFormerError(
            "No grouping of the cells is named.",
            where=cells.name,
            fix=f"Groupings: {', '.join(list(cells.groups)[:40]) or 'none'}.",
        )
    return groupby


def _settings(request: ColocaliseRequest) -> ColocaliseSettings:
    from spatialformer_core.inference import ColocaliseSettings

    values = {
        "n_queries": request.n_queries,
        "selection": {"k": request.k, "threshold": request.threshold},
        "candidates": {name: getattr(request, name) for name in _CANDIDATES},
    }
    return validate(ColocaliseSettings, values, "colocalise")


def _subject(
    cells: ModelCells, tokens: Any, loaded: Checkpoint, asked: tuple[ColocaliseRequest, str]
) -> tuple[Subject, str]:
    """Return the cells as they are asked about, and which of them the checkpoint has seen."""
    from spatialformer_core.inference import Subject, type_pair_prior, typed

    request, groupby = asked
    groups = cells.group(groupby)
    names, types = typed(groups.categories, np.asarray(groups.codes, np.int64))
    held_out, seen, words = _exposure(cells, loaded, request)
    eligible = cells.passes_qc & held_out
    learnt = cells.passes_qc & seen
    prior = None
    if cells.xy_um is not None and learnt.any() and not (eligible & learnt).any():
        prior = type_pair_prior(cells.xy_um, types, len(names), learnt, request.radius_um)
    subject = Subject(
        tokens=tokens,
        types=types,
        type_names=names,
        eligible=eligible,
        may_ask=_may_ask(cells, request, groupby, eligible),
        xy_um=cells.xy_um,
        counts=cells.counts,
        prior=prior,
    )
    return subject, words


def _exposure(
    cells: ModelCells, loaded: Checkpoint, request: ColocaliseRequest
) -> tuple[BoolArray, BoolArray, str]:
    """Return which cells take part, which the checkpoint has seen, and that in a sentence."""
    if cells.slide is not None:
        found = exposed(cells.slide, loaded.provenance, loaded.name, request.cells)
        return found.may_ask[cells.order], found.seen[cells.order], found.words
    if request.cells == "held_out":
        raise SpatialFormerError(
            "Nobody can tell which cells of a file a checkpoint has seen.",
            where=cells.name,
            fix="Ask about all cells, or ingest the slide.",
        )
    every = np.ones(len(cells.cell_ids), np.bool_)
    return every, ~every, "A file: whether the checkpoint has seen its cells is not known."


def _may_ask(
    cells: ModelCells, request: ColocaliseRequest, groupby: str, eligible: BoolArray
) -> BoolArray:
    """Return the eligible cells in the regions and of the types asked about, shape ``(n,)``."""
    chosen = eligible & of_types(cells.group(groupby), request.query_types, cells.name)
    if cells.slide is not None:
        chosen &= in_regions(cells.slide, request.roi_ids)[cells.order]
    require_queries(chosen, cells.name)
    return chosen


def _edges(cells: ModelCells, result: Colocalisation, subject: Subject) -> pd.DataFrame:
    import pandas as pd

    edges = result.edges
    types = np.array(subject.type_names, dtype=object)[subject.types]
    frame = pd.DataFrame(
        {
            "cell_id": cells.cell_ids[edges.query],
            "neighbour_id": cells.cell_ids[edges.cell],
            "type": types[edges.query],
            "neighbour_type": types[edges.cell],
            "score": edges.score,
            "predicted": edges.is_predicted,
            "true": edges.is_true,
        }
    )
    if cells.xy_um is not None:
        one, other = cells.xy_um[edges.query], cells.xy_um[edges.cell]
        frame["x_um"], frame["y_um"] = one.T
        frame["neighbour_x_um"], frame["neighbour_y_um"] = other.T
        frame["distance_um"] = np.hypot(*(one - other).T)
    return frame
