"""Screens on stored slides: from a request to an estimate, a job's result, a page's table."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, IntArray, LongArray
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import (
    Given,
    ModelFacts,
    Rates,
    ScreenEstimate,
    ScreenRequest,
    Tissue,
    read_result,
    run_screen,
    write_result,
)
from spatialformer_core.perturbation import estimate_screen as estimate
from spatialformer_core.perturbation.facts import Architecture
from spatialformer_core.perturbation.tissue import SpilloverCodes
from spatialformer_core.progress import Cancel, Progress, check, never, silent, staged
from spatialformer_core.service.checkpoints import checkpoint_folder
from spatialformer_core.service.screen_counts import gene_columns, screen_counts
from spatialformer_core.service.screen_regions import regions_of, versus_of
from spatialformer_core.service.screen_result import (
    complete,
    read_agreement,
    read_references,
    write_agreement,
    write_figures,
)
from spatialformer_core.service.spillover import read_flags
from spatialformer_core.service.training_cells import exposure
from spatialformer_core.service.vocabularies import known_genes
from spatialformer_core.slides import SlideStore
from spatialformer_core.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.service.screen_work import Execution
    from spatialformer_core.slides import Slide

DEFAULT_RATES: dict[Architecture, Rates] = {
    "two-tower": Rates(encodings_per_s=2_000.0, evaluations_per_s=700_000.0, measured=False),
    "cross-encoder": Rates(encodings_per_s=1e9, evaluations_per_s=120.0, measured=False),
}
"""Speed of the ``small`` preset on one CPU core, until a screen has measured it here."""

_COOCCURRENCE_CELLS = 4_000
_COOCCURRENCE_MIN_CELLS = 3


class _MeasuredRates(FrozenModel):
    """What ``rates/<checkpoint>.json`` in the home folder holds."""

    encodings_per_s: float
    evaluations_per_s: float


@dataclass(frozen=True, slots=True)
class ScreenView:
    """A finished screen for a page: the table, the facts (``screen.json``) and what is beside.

    ``pairs`` are the cell pairs, ``enriched`` the gene sets, ``liana`` the ranks beside liana's,
    ``agreement`` the table of all checkpoints; None where there are none.
    """

    table: pd.DataFrame
    info: dict[str, Any]
    pairs: pd.DataFrame | None = None
    enriched: pd.DataFrame | None = None
    liana: pd.DataFrame | None = None
    agreement: pd.DataFrame | None = None


def estimate_screen(store: SlideStore, request: ScreenRequest) -> ScreenEstimate:
    """Return pairs, units, coverage, time and reach of a screen; imports no torch.

    Raises
    ------
    SpatialFormerError
        For everything that would stop the screen itself.
    """
    home = store.root.parent
    folder = checkpoint_folder(home, request.checkpoint_id)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    provenance = files.read_json(folder / "provenance.json")
    slides = [store.open(slide_id) for slide_id in request.slide_ids]
    tissues = [make_tissue(s, vocabulary, request, provenance) for s in slides]
    facts = make_facts(slides, vocabulary, folder, provenance)
    return estimate(tissues, replace(facts, on_gpu=_has_gpu()), request)


def run_screen_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Carry out a queued screen; ``params`` is a `ScreenRequest` as JSON."""
    from spatialformer_core.service.screen_work import Execution

    request = validate(ScreenRequest, params, "screen")
    home = files.home()
    folder = checkpoint_folder(home, request.checkpoint_id)
    # In the job's own folder, beside the result that is not there yet: a worker that takes the
    # job over finds what its predecessor has finished.
    kept = out.parent / "shards"
    run_screen_request(
        SlideStore(home),
        request,
        folder,
        out,
        execution=Execution(kept),
        progress=progress,
        cancel=cancel,
    )
    shutil.rmtree(kept, ignore_errors=True)


def run_screen_request(
    store: SlideStore,
    request: ScreenRequest,
    checkpoint: Path,
    out: Path,
    *,
    execution: Execution | None = None,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> ScreenView:
    """Run a screen with a checkpoint folder and write its result into an existing folder.

    Parameters
    ----------
    store, request, checkpoint, out
        What to screen, with what, and where the result goes.
    execution
        In which processes, and where finished shards are kept; None: in this one, nowhere.
    progress, cancel
        As everywhere.

    Raises
    ------
    SpatialFormerError
        For tissue, types, regions or checkpoints that cannot be screened.
    Cancelled
        If the user cancels.
    """
    from spatialformer_core.service.screen_work import Execution, make_farm, prepare

    execution = execution or Execution()
    references = read_references(request, store.root.parent)
    progress(0.0, 1.0, "Reading the checkpoint and the slide")
    ready = prepare(store, request, checkpoint, cancel)
    slides, tissues = ready.slides, ready.tissues
    cooccurring = _cooccurring(slides, tissues, ready.loaded.vocabulary, cancel)
    result = run_screen(
        tissues,
        ready.scorer,
        ready.facts,
        request,
        given=Given(cooccurring, make_farm(store, request, checkpoint, ready, execution)),
        progress=staged(progress, 0.05, 0.98 / (1 + len(request.agreement_ids))),
        cancel=cancel,
    )
    result, agreement = complete(
        result,
        store,
        request,
        references,
        vocabulary=ready.loaded.vocabulary,
        progress=staged(progress, 0.98 / (1 + len(request.agreement_ids)), 0.98),
        cancel=cancel,
    )
    result.info["slides"] = [
        {
            "slide_id": s.meta.slide_id,
            "created": s.meta.created,
            "sample": s.meta.sample.model_dump(),
        }
        for s in slides
    ]
    write_result(result, out)
    write_agreement(agreement, out)
    if execution.figures:
        write_figures(result, out)
    if not ready.facts.on_gpu:
        _remember_rates(store.root.parent, checkpoint, result.info["cost"])
    progress(1.0, 1.0, "Done")
    return ScreenView(result.table, result.info)


def screen_result(folder: Path) -> ScreenView:
    """Read a finished screen.

    Raises
    ------
    SpatialFormerError
        If the folder holds none.
    """
    result = read_result(folder)
    beside = (result.pairs, result.enriched, result.liana, read_agreement(folder))
    return ScreenView(result.table, result.info, *beside)


def make_tissue(
    slide: Slide, vocabulary: Vocabulary, request: ScreenRequest, provenance: dict[str, Any]
) -> Tissue:
    """Return a stored slide as a screen sees it, without tokens.

    Raises
    ------
    SpatialFormerError
        If the grouping, a type or a region does not exist.
    """
    groups = slide.group(request.groupby)
    chosen = []
    for name in (request.group_left, request.group_right):
        if name not in groups.categories:
            raise SpatialFormerError(
                f"There is no type {name!r} in grouping {request.groupby!r}.",
                where=slide.meta.slide_id,
                fix=f"Types: {', '.join(groups.categories[:60])}.",
            )
        code = groups.categories.index(name)
        chosen.append(np.asarray(slide.passes_qc) & (np.asarray(groups.codes) == code))
    counts = screen_counts(slide, request)
    presence = _presence(counts, gene_columns(slide, vocabulary), chosen[0] | chosen[1], vocabulary)
    known = np.diff(presence.indptr) > 0
    known_cells = exposure(slide, provenance)
    return Tissue(
        slide_id=slide.meta.slide_id,
        donor=slide.meta.sample.donor,
        simulated=slide.meta.simulated,
        xy_um=np.asarray(slide.xy_um, np.float64),
        left=chosen[0] & known,
        right=chosen[1] & known,
        depth=np.asarray(counts.sum(axis=1), np.float64).ravel(),
        presence=presence,
        seen=None if known_cells is None else known_cells.seen,
        held_out=None if known_cells is None else known_cells.held_out,
        regions=regions_of(slide, request),
        versus=versus_of(slide, request),
        spillover=_spillover(slide, vocabulary, request),
    )


def _presence(counts: Any, column: IntArray, rows: BoolArray, vocabulary: Vocabulary) -> Any:
    """Return expressed genes by vocabulary column, for the given cells only."""
    from scipy import sparse

    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    target = column[counts.indices]
    kept = rows[row] & (target >= 0) & (np.asarray(counts.data) > 0)
    data = np.ones(int(kept.sum()), np.int32)
    shape = (counts.shape[0], len(vocabulary.genes))
    presence = sparse.csr_matrix((data, (row[kept], target[kept])), shape=shape)
    # Two genes of the slide may be one of the vocabulary.
    presence.data[:] = 1
    return presence


def _spillover(
    slide: Slide, vocabulary: Vocabulary, request: ScreenRequest
) -> tuple[SpilloverCodes, SpilloverCodes] | None:
    """Return what `spatialformer spillover` found in the two types, by vocabulary column."""
    flags = read_flags(slide, request.groupby)
    if flags is None:
        return None
    column = gene_columns(slide, vocabulary)
    known = column >= 0
    left, right = (np.zeros(len(vocabulary.genes), np.int8) for _ in range(2))
    left[column[known]] = flags[request.group_left][known]
    right[column[known]] = flags[request.group_right][known]
    return left, right


def make_facts(
    slides: list[Slide], vocabulary: Vocabulary, checkpoint: Path, provenance: dict[str, Any]
) -> ModelFacts:
    """Return what a screen must know of a checkpoint folder, without reading its weights."""
    return ModelFacts(
        name=checkpoint.name,
        id="",
        simulated=bool(provenance.get("simulated", False)),
        genes=vocabulary.genes,
        gene_offset=vocabulary.gene_offset,
        coverage=min(known_genes(slide, vocabulary).fraction for slide in slides),
        fingerprint=vocabulary.fingerprint,
        architecture=_architecture(checkpoint),
        rates=_rates(slides[0].folder.parents[1], checkpoint),
    )


def _has_gpu() -> bool:
    # The web process must not import torch; these devices are there when a driver is.
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))


def _cooccurring(
    slides: list[Slide], tissues: list[Tissue], vocabulary: Vocabulary, cancel: Cancel
) -> Any:
    """Return which gene pairs co-occur inside at least 3 cells of the two types in the regions.

    None where a slide has no transcripts, so that nobody can know.
    """
    from scipy import sparse

    if not all(slide.meta.has_transcripts for slide in slides):
        return None
    n_genes = len(vocabulary.genes)
    total = sparse.csr_matrix((n_genes, n_genes), dtype=np.int64)
    for slide, tissue in zip(slides, tissues, strict=True):
        check(cancel)
        rows = np.flatnonzero((tissue.left | tissue.right) & tissue.in_any_region)
        if len(rows) > _COOCCURRENCE_CELLS:
            rng = np.random.default_rng(0)
            rows = np.sort(rng.choice(rows, _COOCCURRENCE_CELLS, replace=False))
        left, right = _gene_pairs_of(slide, rows)
        ids = gene_columns(slide, vocabulary)
        one, other = ids[left], ids[right]
        known = (one >= 0) & (other >= 0)
        ones = np.ones(int(known.sum()), np.int64)
        found = sparse.csr_matrix((ones, (one[known], other[known])), shape=(n_genes, n_genes))
        total = total + found + found.T
    return total >= _COOCCURRENCE_MIN_CELLS


def _gene_pairs_of(slide: Slide, rows: LongArray) -> tuple[LongArray, LongArray]:
    """Return gene columns of all co-occurring pairs of the given cells."""
    from spatialformer_core.cooccurrence import cooccurring_pairs

    transcripts = slide.transcripts_by_cell()
    start, stop = transcripts.indptr[rows], transcripts.indptr[rows + 1]
    indptr = np.concatenate([[0], np.cumsum(stop - start)]).astype(np.int64)
    take = np.repeat(start - indptr[:-1], stop - start) + np.arange(indptr[-1])
    pairs = cooccurring_pairs(
        np.asarray(transcripts.xyz_um)[take],
        np.asarray(transcripts.gene)[take].astype(np.int32),
        indptr,
        n_genes=len(slide.genes),
    )
    return np.asarray(pairs.left, np.int64), np.asarray(pairs.right, np.int64)


def _rates_path(home: Path, name: str) -> Path:
    return home / "rates" / f"{files.check_name(name, 'Checkpoint')}.json"


def _architecture(folder: Path) -> Architecture:
    # The web process must not import the model's own reader, which needs torch.
    is_two_tower = "two-tower" in (folder / "config.yaml").read_text("utf-8")
    return "two-tower" if is_two_tower else "cross-encoder"


def _default_rates(folder: Path) -> Rates:
    return DEFAULT_RATES[_architecture(folder)]


def _rates(home: Path, folder: Path) -> Rates:
    path = _rates_path(home, folder.name)
    if path.is_file():
        measured = validate(_MeasuredRates, files.read_json(path), str(path))
        return Rates(measured.encodings_per_s, measured.evaluations_per_s, measured=True)
    return _default_rates(folder)


def _remember_rates(home: Path, folder: Path, cost: dict[str, float]) -> None:
    """Scale the default rates so that they would have predicted this screen's time."""
    rates = _default_rates(folder)
    expected = (
        cost["encodings"] / rates.encodings_per_s
        + cost["head_evaluations"] / rates.evaluations_per_s
    )
    if expected <= 0 or cost["effects_seconds"] <= 0:
        return
    factor = expected / cost["effects_seconds"]
    measured = _MeasuredRates(
        encodings_per_s=rates.encodings_per_s * factor,
        evaluations_per_s=rates.evaluations_per_s * factor,
    )
    files.write_json(_rates_path(home, folder.name), measured.model_dump())
