"""The door of the room: settings in, a bundle on disk and a report out."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from spatialformer_core.files import atomic_directory, check_name
from spatialformer_core.progress import Cancel, Progress, never, silent, staged
from spatialformer_core.simulate.bundle import write_bundle
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.simulate.settings import SimulationReport, SimulationSettings
from spatialformer_core.simulate.slide import simulate_slide


def simulate(
    out: Path,
    settings: SimulationSettings,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> SimulationReport:
    """Make a lung-like tissue with planted truth and write it as a Xenium output bundle.

    Parameters
    ----------
    out
        Folder to make; it appears whole or not at all.
    settings
        What to make; equal settings give an equal slide.
    progress, cancel
        As everywhere.

    Raises
    ------
    SpatialFormerError
        If the folder exists or its name cannot be used.
    Cancelled
        If the user asked for it; nothing is left behind.
    """
    began = time.monotonic()
    name = check_name(out.name, "The bundle's name")
    with atomic_directory(out) as folder:
        slide = simulate_slide(settings, staged(progress, 0.0, 0.5), cancel)
        rows, matrix = write_bundle(slide, folder, name, staged(progress, 0.5, 1.0), cancel)
    genes = matrix[:, : load_panel().n_genes]
    return SimulationReport(
        name=name,
        cells=slide.n_cells,
        genes=load_panel().n_genes,
        transcripts=rows,
        transcripts_per_cell=round(float(genes.sum() / slide.n_cells), 2),
        genes_per_cell=round(float(np.mean(genes.getnnz(axis=1))), 2),
        granulomas=len(slide.tissue.of_kind("granuloma")),
        side_um=round(slide.tissue.side_um, 2),
        seconds=round(time.monotonic() - began, 2),
    )
