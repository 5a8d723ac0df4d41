"""Gene pairs for a page: what can be compared, what it will take, and the finished result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.gene_pairs import (
    GenePairRequest,
    cell_labels,
    cooccurrence_folder,
    kept_cells,
    make_grouping,
)

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.arrays import BoolArray
    from spatialformer_core.gene_pairs import Contrast
    from spatialformer_core.jobs import JobQueue
    from spatialformer_core.service.pair_cells import PairDetail
    from spatialformer_core.service.picture import CellPicture
    from spatialformer_core.slides import Slide, SlideMeta, SlideStore
    from spatialformer_core.stats import CellUnits, Placed

KIND, NETWORK = "gene-pairs", "network.graphml"
_S_PER_TRANSCRIPT, _S_PER_COMPARED_CELL, _S_START = 1.5e-6, 2e-5, 4.0
_PERMUTATIONS_TIMED = 20
"""CPU-seconds of one core, docs/results/gene_pairs_pancreas.md."""


@dataclass(frozen=True, slots=True)
class GenePairEstimate:
    """What a comparison will do.

    Attributes
    ----------
    cells
        Cells that pass QC (and are of the group asked for).
    comparisons
        Per comparison ``group reference cells_group cells_reference unit n_units no_p_reason``.
    slides_to_measure
        Slides whose co-occurrence was not measured yet with these settings.
    seconds
        Rough time on one core.
    """

    cells: int
    comparisons: tuple[dict[str, Any], ...]
    slides_to_measure: int
    seconds: float

    @property
    def with_p(self) -> int:
        """Comparisons that can have p-values."""
        return sum(row["no_p_reason"] is None for row in self.comparisons)


@dataclass(frozen=True, slots=True)
class GenePairView:
    """A finished comparison: the table and the facts (see ``gene_pairs.json``)."""

    table: pd.DataFrame
    info: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PairNetwork:
    """One comparison's part of the network, placed for drawing.

    Attributes
    ----------
    nodes
        ``gene x y cells``; positions have no unit.
    edges
        ``gene_left gene_right effect q``.
    n_edges
        Edges of this comparison in the file; the strongest of them are drawn.
    edges_are
        Which pairs are edges, in words.
    """

    nodes: pd.DataFrame
    edges: pd.DataFrame
    n_edges: int
    edges_are: str


def group_choices(slides: Sequence[SlideMeta]) -> tuple[str, ...]:
    """Return what the cells of some slides can be grouped by.

    First the groupings that all of them have, then the sample's facts in which they differ.
    """
    if not slides:
        return ()
    keys = [k for k in slides[0].group_keys if all(k in meta.group_keys for meta in slides)]
    facts = [
        name
        for name in SampleMetadata.model_fields
        if name not in keys and len({getattr(meta.sample, name) for meta in slides}) > 1
    ]
    return (*keys, *facts)


def group_names(store: SlideStore, slide_ids: Sequence[str], groupby: str) -> tuple[str, ...]:
    """Return the groups of a grouping over some slides, by name."""
    slides = [store.open(slide_id) for slide_id in slide_ids]
    return tuple(
        sorted({str(name) for s in slides for name in np.unique(cell_labels(s, groupby)) if name})
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """Which cells a comparison takes, and how they are compared.

    Attributes
    ----------
    slides
        The slides, open.
    kept
        Per slide, the cells that take part, shape ``(n_cells,)``.
    placed
        Slide and place of those cells, slide after slide.
    comparisons
        Each comparison with the replicate unit of each of those cells.
    """

    slides: tuple[Slide, ...]
    kept: tuple[BoolArray, ...]
    placed: Placed
    comparisons: tuple[tuple[Contrast, CellUnits], ...]


def plan_of(store: SlideStore, request: GenePairRequest) -> Plan:
    """Return the cells and comparisons of a request, as its job takes them.

    Raises
    ------
    SpatialFormerError
        If the slides, the grouping or its groups do not suffice.
    """
    from spatialformer_core.gene_pairs import planned_units
    from spatialformer_core.stats import Placed

    slides = [store.open(slide_id) for slide_id in request.slide_ids]
    kept = [kept_cells(slide, request.within) for slide in slides]
    labels = [
        cell_labels(slide, request.groupby)[mask] for slide, mask in zip(slides, kept, strict=True)
    ]
    placed = Placed(
        slide=np.repeat(np.arange(len(slides)), [int(mask.sum()) for mask in kept]),
        xy_um=np.concatenate(
            [np.asarray(s.xy_um, np.float64)[mask] for s, mask in zip(slides, kept, strict=True)]
        ),
        slides=tuple(slide.meta.slide_id for slide in slides),
        donors=tuple(slide.meta.sample.donor for slide in slides),
    )
    grouping = make_grouping(request.groupby, labels)
    comparisons = planned_units(grouping, placed, request.settings)
    return Plan(tuple(slides), tuple(kept), placed, tuple(comparisons))


def estimate_gene_pairs(store: SlideStore, request: GenePairRequest) -> GenePairEstimate:
    """Return cells, comparisons, replicate units and time, before anything is started.

    Raises
    ------
    SpatialFormerError
        If the slides, the grouping or its groups do not suffice.
    """
    found = plan_of(store, request)
    placed, plan = found.placed, found.comparisons
    missing = [
        slide.meta.n_transcripts
        for slide in found.slides
        if not files.is_complete(cooccurrence_folder(slide, request.cooccurrence))
    ]
    rounds = (1 + request.cooccurrence.permutations) / (1 + _PERMUTATIONS_TIMED)
    compared = sum(int((contrast.side >= 0).sum()) for contrast, _ in plan)
    return GenePairEstimate(
        cells=len(placed.slide),
        comparisons=tuple(
            {
                "group": contrast.group,
                "reference": contrast.reference,
                "cells_group": int((contrast.side == 0).sum()),
                "cells_reference": int((contrast.side == 1).sum()),
                "unit": units.label,
                "n_units": len(units.names),
                "no_p_reason": units.no_p_reason,
            }
            for contrast, units in plan
        ),
        slides_to_measure=len(missing),
        seconds=_S_START
        + _S_PER_TRANSCRIPT * rounds * sum(missing)
        + _S_PER_COMPARED_CELL * compared,
    )


def gene_pair_result(folder: Path) -> GenePairView:
    """Read a finished comparison.

    Raises
    ------
    SpatialFormerError
        If the folder holds none.
    """
    from spatialformer_core.gene_pairs import read_result

    return GenePairView(*read_result(folder))


def pair_network(folder: Path, group: str, reference: str, most: int) -> PairNetwork:
    """Return the strongest edges of one comparison of a result's ``network.graphml``, placed.

    Parameters
    ----------
    most
        Edges drawn at most.

    Raises
    ------
    SpatialFormerError
        If the result has no network.
    """
    import networkx
    import pandas as pd

    if not (folder / NETWORK).is_file():
        raise SpatialFormerError("The result has no network.", where=NETWORK)
    graph = networkx.read_graphml(folder / NETWORK, force_multigraph=True)
    mine = [
        {"gene_left": a, "gene_right": b, "effect": e.get("effect"), "q": e.get("q")}
        for a, b, e in graph.edges(data=True)
        if (e.get("group"), e.get("reference")) == (group, reference)
    ]
    edges = pd.DataFrame(mine, columns=["gene_left", "gene_right", "effect", "q"])
    order = edges["effect"].astype(float).abs().sort_values(ascending=False, kind="stable").index
    edges = edges.loc[order[:most]].reset_index(drop=True)
    drawn = networkx.Graph()
    drawn.add_edges_from(zip(edges["gene_left"], edges["gene_right"], strict=True))
    place = networkx.spring_layout(drawn, seed=0, k=2.2 / max(1.0, len(drawn)) ** 0.5)
    nodes = pd.DataFrame(
        [
            (g, float(x), float(y), int(graph.nodes[g].get("cells", 0)))
            for g, (x, y) in place.items()
        ],
        columns=["gene", "x", "y", "cells"],
    )
    return PairNetwork(nodes, edges, len(mine), str(graph.graph.get("edges_are", "")))


class GenePairDesk:
    """The use-cases of a home folder that are about gene pairs.

    Parameters
    ----------
    store
        Its slides.
    queue
        Its jobs.
    submit
        Queues a job, ``(kind, params, owner)``, and sees to a worker.
    """

    def __init__(
        self, store: SlideStore, queue: JobQueue, submit: Callable[[str, dict[str, Any], str], str]
    ) -> None:
        self._store, self._queue, self._submit = store, queue, submit

    def choices(self, slide_ids: Sequence[str]) -> tuple[str, ...]:
        """Return what the cells of some slides can be grouped by."""
        return group_choices([self._store.open(slide_id).meta for slide_id in slide_ids])

    def groups(self, slide_ids: Sequence[str], groupby: str) -> tuple[str, ...]:
        """Return the groups of a grouping over some slides."""
        return group_names(self._store, slide_ids, groupby)

    def estimate(self, request: GenePairRequest) -> GenePairEstimate:
        """Return cells, comparisons, units and time, before it is started."""
        return estimate_gene_pairs(self._store, request)

    def start(self, request: GenePairRequest, owner: str) -> str:
        """Queue a comparison and return the job id."""
        return self._submit(KIND, request.model_dump(mode="json"), owner)

    def result(self, job_id: str, owner: str | None = None) -> GenePairView:
        """Return table and facts of a finished comparison.

        Raises
        ------
        SpatialFormerError
            If the job is not done or of another kind.
        """
        return gene_pair_result(self._folder(job_id, owner))

    def _folder(self, job_id: str, owner: str | None) -> Path:
        return self._queue.result(job_id, owner, KIND)

    def network(
        self, job_id: str, comparison: tuple[str, str], most: int, owner: str | None = None
    ) -> PairNetwork:
        """Return the strongest edges of one comparison (group, reference), placed for drawing."""
        return pair_network(self._folder(job_id, owner), *comparison, most)

    def pair(
        self, job_id: str, comparison: tuple[str, str], pair: str, owner: str | None = None
    ) -> PairDetail:
        """Return one pair of genes in every cell and unit of a comparison (group, reference)."""
        from spatialformer_core.service.pair_cells import pair_detail

        return pair_detail(self._store, self._folder(job_id, owner), comparison, pair)

    def pair_picture(self, slide_id: str, cells: pd.DataFrame, column: str) -> CellPicture:
        """Return the cells of a slide, coloured by a column of a `PairDetail`'s cells."""
        from spatialformer_core.service.pair_cells import pair_picture

        return pair_picture(self._store.open(slide_id), cells, column)
