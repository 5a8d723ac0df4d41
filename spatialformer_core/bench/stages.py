"""Which figures belong to which stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from spatialformer_core import progress as progress_
from spatialformer_core.bench import (
    app_stage,
    browser,
    browsing,
    ingest,
    kernels,
    loading,
    model,
    screen,
    statistics,
)
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, Stage
from spatialformer_core.errors import SpatialFormerError


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement, which may give several rows.

    Attributes
    ----------
    measure
        Takes the options and returns the rows.
    wanted
        Tells from the options whether it can run.
    missing
        Says what the machine lacks for it, None if nothing.
    """

    name: str
    measure: Callable[[BenchOptions], list[Row]]
    wanted: Callable[[BenchOptions], bool] = lambda options: True
    missing: Callable[[], str | None] = lambda: None


def _whole(options: BenchOptions) -> bool:
    return options.whole


def _ingest_slide(options: BenchOptions) -> list[Row]:
    if options.slide is None:
        raise SpatialFormerError(
            "No slide was given to ingest.", where="bench", fix="Give --slide."
        )
    return ingest.ingest_row(options.slide, "slide", at_most_s=60.0, at_most_gb=3.0)


STAGES: dict[Stage, tuple[Figure, ...]] = {
    "data": (
        Figure("cooccurrence", kernels.cooccurrence),
        Figure("tokenise_343", partial(kernels.tokenise, n_genes=343)),
        Figure("tokenise_5000", partial(kernels.tokenise, n_genes=5_000)),
        Figure("cell_graph", kernels.cell_graph),
        Figure("pair_sampling", kernels.pair_sampling),
        Figure("pair_loader", loading.pair_loader),
        Figure("transcript_graph", loading.transcript_graph),
        Figure("ingest_slide", _ingest_slide, lambda options: options.slide is not None),
        Figure("cooccurrence_40m", kernels.cooccurrence_whole, _whole),
        Figure("ingest_40m", ingest.ingest_whole, _whole),
    ),
    "model": (
        Figure("forward", model.forward),
        Figure("training", model.training),
    ),
    "screen": (
        Figure("exact", screen.exact),
        Figure("exact_two_tower", screen.exact_two_tower),
        Figure("screened", screen.screened),
        Figure("statistics", statistics.statistics),
    ),
    "app": (
        Figure("served", app_stage.served),
        Figure("lasso", app_stage.lasso, missing=browser.missing),
        Figure("first_view", app_stage.first_views, missing=browser.missing),
        Figure("browsing", browsing.browsing),
    ),
}


def run(
    stage: Stage,
    options: BenchOptions,
    *,
    only: tuple[str, ...] = (),
    progress: progress_.Progress = progress_.silent,
    cancel: progress_.Cancel = progress_.never,
) -> Iterator[Row]:
    """Measure the figures of a stage one after another.

    Parameters
    ----------
    only
        Names of figures; empty runs all that the options allow.

    Raises
    ------
    SpatialFormerError
        If the stage or a figure does not exist.
    """
    if stage not in STAGES:
        raise SpatialFormerError(
            f"There is no stage {stage!r}.", where="--stage", fix=f"Stages: {', '.join(STAGES)}."
        )
    figures = STAGES[stage]
    unknown = sorted(set(only) - {figure.name for figure in figures})
    if unknown:
        raise SpatialFormerError(
            f"Stage {stage} has no figure {', '.join(unknown)}.",
            where="--only",
            fix=f"Figures: {', '.join(figure.name for figure in figures)}.",
        )
    chosen = [
        figure for figure in figures if (figure.name in only if only else figure.wanted(options))
    ]
    for number, figure in enumerate(chosen):
        progress_.check(cancel)
        if reason := figure.missing():
            if only:
                raise SpatialFormerError(f"{figure.name} cannot be measured: {reason}", "--only")
            progress(number, len(chosen), f"Skipping {figure.name}: {reason}")
            continue
        progress(number, len(chosen), f"Measuring {figure.name}")
        yield from figure.measure(options)
    progress(len(chosen), len(chosen), "Done")
