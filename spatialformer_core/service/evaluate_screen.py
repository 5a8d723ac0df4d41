"""The suite ``screen``: on tissues that are simulated for it, with a checkpoint and without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialformer_core import files
from spatialformer_core.perturbation import ModelFacts
from spatialformer_core.progress import Cancel, Progress, never, silent

if TYPE_CHECKING:
    from spatialformer_core.evaluation.screens import ScreenSuiteSettings
    from spatialformer_core.model import Checkpoint
    from spatialformer_core.vocabulary import Vocabulary

REPORT, TABLE = "report.json", "report.md"
METHOD = "spatialformer"


def run_screen_evaluation(
    checkpoint: Path,
    settings: ScreenSuiteSettings,
    out: Path,
    *,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> dict[str, Any]:
    """Run the suite with a checkpoint beside the planted truth as a scorer.

    Writes ``report.json`` (rows, and ``tissues``: what was found on each) and ``report.md`` into
    an existing folder.

    Parameters
    ----------
    checkpoint
        Checkpoint folder; its vocabulary must know the simulator's genes.
    settings
        What to measure.

    Raises
    ------
    SpatialFormerError
        If the checkpoint knows too little of the simulator's panel, or a tissue cannot be
        screened.
    Cancelled
        If the user cancels.
    """
    from spatialformer_core.evaluation.planted_scorer import NAME, PlantedScorer
    from spatialformer_core.evaluation.screen_report import markdown, suite_rows
    from spatialformer_core.evaluation.screens import run_suite
    from spatialformer_core.inference import make_scorer, require_coverage
    from spatialformer_core.model import load_checkpoint
    from spatialformer_core.simulate.panel import load_panel

    loaded = load_checkpoint(checkpoint)
    require_coverage(f"Checkpoint {loaded.name!r}", loaded.vocabulary, load_panel().genes)
    truth = PlantedScorer(loaded.vocabulary)
    scorers = [
        (make_scorer(loaded), _facts(METHOD, loaded.vocabulary, loaded)),
        (truth, _facts(NAME, loaded.vocabulary, None)),
    ]
    records = run_suite(scorers, loaded.vocabulary, settings, progress=progress, cancel=cancel)
    report = {
        "rows": suite_rows(records),
        "tissues": records,
        "provenance": {
            "checkpoint": {"name": loaded.name, "id": loaded.id},
            "settings": settings.model_dump(mode="json"),
        },
    }
    files.write_json(out / REPORT, report)
    with files.atomic_write(out / TABLE, "w") as stream:
        stream.write(markdown(report))
    return report


def _facts(name: str, vocabulary: Vocabulary, loaded: Checkpoint | None) -> ModelFacts:
    return ModelFacts(
        name=name,
        id=loaded.id if loaded else "",
        simulated=True,
        genes=vocabulary.genes,
        gene_offset=vocabulary.gene_offset,
        coverage=1.0,
        fingerprint=vocabulary.fingerprint,
        architecture=loaded.config.architecture if loaded else "two-tower",
    )
