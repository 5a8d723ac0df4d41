"""Benchmark suites on stored slides: from a slide and a checkpoint to ``report.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from spatialformer_core import files
from spatialformer_core.config import FrozenModel, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.colocalisation import (
    ColocalisationSettings,
    EvaluationSlide,
    run,
)
from spatialformer_core.evaluation.reports import write_report
from spatialformer_core.evaluation.splits import SplitCodes, SplitRecipe, split_by_recipe
from spatialformer_core.progress import Cancel, Progress, never, silent, staged
from spatialformer_core.service.checkpoints import checkpoint_folder
from spatialformer_core.service.training_cells import took_part, training_split
from spatialformer_core.service.vocabularies import spelled_as
from spatialformer_core.slides import SlideStore

if TYPE_CHECKING:
    from spatialformer_core.arrays import CellTokens
    from spatialformer_core.inference import PairScorer
    from spatialformer_core.model import Checkpoint
    from spatialformer_core.slides import Slide

METHOD = "spatialformer"


class EvaluationRequest(FrozenModel):
    """What a benchmark is asked to do.

    Attributes
    ----------
    suite
        Which suite.
    slide_id
        The slide.
    checkpoint_id
        The model; None runs the baselines alone.
    also
        Further models that are asked the same pairs in the same run, such as other seeds of the
        training; of the same vocabulary and with the same cells held out. Methods
        ``spatialformer:NAME``.
    groupby
        Grouping that gives the cell types; None takes the slide's default.
    settings
        What the suite measures.
    split
        Held-out blocks for a slide that took no part in training. A slide that did keeps the
        blocks with which the checkpoint was trained.
    allow_simulated
        Accept a checkpoint trained on simulated tissue for a real slide; the report is marked.
    """

    suite: Literal["colocalisation"] = "colocalisation"
    slide_id: str = Field(min_length=1, max_length=128)
    checkpoint_id: str | None = Field(default=None, max_length=256)
    also: tuple[str, ...] = Field(default=(), max_length=16)
    groupby: str | None = Field(default=None, max_length=128)
    settings: ColocalisationSettings = ColocalisationSettings()
    split: SplitRecipe = SplitRecipe()
    allow_simulated: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> EvaluationRequest:
        if self.also and self.checkpoint_id is None:
            raise ValueError("further checkpoints stand beside a first one, and none was given")
        return self


def run_evaluate_job(params: dict[str, Any], out: Path, progress: Progress, cancel: Cancel) -> None:
    """Carry out a queued benchmark; ``params`` is an `EvaluationRequest` as JSON."""
    request = validate(EvaluationRequest, params, "evaluate")
    home = files.home()
    folder = checkpoint_folder(home, request.checkpoint_id) if request.checkpoint_id else None
    others = tuple(checkpoint_folder(home, name) for name in request.also)
    store = SlideStore(home)
    run_evaluation(store, request, folder, out, others=others, progress=progress, cancel=cancel)


def run_evaluation(
    store: SlideStore,
    request: EvaluationRequest,
    checkpoint: Path | None,
    out: Path,
    *,
    others: Sequence[Path] = (),
    progress: Progress = silent,
    cancel: Cancel = never,
) -> dict[str, Any]:
    """Run a suite on a stored slide and write its report into an existing folder.

    Parameters
    ----------
    store
        The slides.
    request
        What to measure.
    checkpoint
        Checkpoint folder; None runs the baselines alone.
    out
        Where ``report.json``, ``report.md`` and ``report.svg`` go.
    others
        Folders of further checkpoints, asked the same.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    SpatialFormerError
        If the slide, its types or its test cells do not suffice, or it cannot be told which
        cells the checkpoint was trained on.
    Cancelled
        If the user cancels.
    """
    progress(0.0, 1.0, "Reading the slide")
    slide = store.open(request.slide_id)
    groupby = request.groupby or slide.meta.default_group
    types = None if groupby is None else np.asarray(slide.group(groupby).codes)
    loaded, scorers, cells = None, {}, None
    if checkpoint is not None:
        loaded, scorer, cells = _model(slide, checkpoint, request)
        scorers = {METHOD: scorer}
        for folder in others:
            scorers |= _beside(slide, loaded, folder, request)
    settings = request.settings
    if types is None and "matched" in settings.negatives:
        kinds = tuple(kind for kind in settings.negatives if kind != "matched")
        settings = settings.model_copy(update={"negatives": kinds})
    subject = EvaluationSlide(
        slide_id=slide.meta.slide_id,
        xy_um=np.asarray(slide.xy_um, np.float64),
        counts=slide.counts,
        kept=np.asarray(slide.passes_qc),
        split=_split(slide, loaded, request),
        types=types,
        cells=cells,
    )
    report = run(subject, scorers, settings, progress=staged(progress, 0.05, 1.0), cancel=cancel)
    report["provenance"] |= _facts(slide, loaded, groupby, request)
    write_report(report, out)
    return report


def _model(
    slide: Slide, folder: Path, request: EvaluationRequest
) -> tuple[Checkpoint, PairScorer, CellTokens]:
    from spatialformer_core.inference import make_scorer, require_coverage
    from spatialformer_core.model import load_checkpoint
    from spatialformer_core.vocabulary import tokenise

    loaded = load_checkpoint(folder)
    if loaded.provenance["simulated"] and not slide.meta.simulated and not request.allow_simulated:
        raise SpatialFormerError(
            f"Checkpoint {loaded.name!r} was trained on simulated tissue and says nothing about a "
            "real slide.",
            fix="Choose a checkpoint trained on real tissue, or allow it knowingly; the report is "
            "then marked.",
        )
    mapping = spelled_as(slide, loaded.vocabulary)
    require_coverage(f"Checkpoint {loaded.name!r}", loaded.vocabulary, mapping.names)
    ids = loaded.vocabulary.gene_ids(mapping.names)
    meta = loaded.vocabulary.meta_ids(slide.meta.sample)
    cells, _ = tokenise(mapping.counts(slide.counts), ids, loaded.vocabulary, meta)
    return loaded, make_scorer(loaded), cells


def _beside(
    slide: Slide, first: Checkpoint, folder: Path, request: EvaluationRequest
) -> dict[str, PairScorer]:
    """Return a further model by its method name; it must be asked exactly the same."""
    other, scorer, _ = _model(slide, folder, request)
    same = first.vocabulary.fingerprint == other.vocabulary.fingerprint
    if not same or not np.array_equal(_split(slide, first, request), _split(slide, other, request)):
        raise SpatialFormerError(
            f"Checkpoint {other.name!r} has another vocabulary or other held-out cells than "
            f"{first.name!r}.",
            fix="Evaluate it in a run of its own.",
        )
    return {f"{METHOD}:{other.name}": scorer}


def _split(slide: Slide, loaded: Checkpoint | None, request: EvaluationRequest) -> SplitCodes:
    if loaded is not None and took_part(slide, loaded.provenance):
        codes = training_split(slide, loaded.provenance)
        if codes is None:
            raise SpatialFormerError(
                f"Checkpoint {loaded.name!r} was trained on slide {slide.meta.slide_id!r}, and its "
                "provenance does not tell which cells were held out.",
                fix="Evaluate it on another slide.",
            )
        return codes
    return split_by_recipe(np.asarray(slide.xy_um), request.split)


def _facts(
    slide: Slide, loaded: Checkpoint | None, groupby: str | None, request: EvaluationRequest
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "donor": slide.meta.sample.donor,
        "types": groupby,
        "request": request.model_dump(mode="json"),
    }
    if loaded is None:
        return facts
    facts["checkpoint"] = {
        "name": loaded.name,
        "id": loaded.id,
        "simulated": loaded.provenance["simulated"],
        "architecture": loaded.config.architecture,
        # None: nobody lists the slides of a converted checkpoint.
        "slide_was_trained_on": took_part(slide, loaded.provenance)
        if isinstance(loaded.provenance.get("trained_on"), list)
        else None,
    }
    if loaded.provenance["simulated"] and not slide.meta.simulated:
        facts["mark"] = "SIMULATED CHECKPOINT on a real slide"
    return facts
