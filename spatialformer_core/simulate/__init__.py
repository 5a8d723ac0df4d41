"""A lung-like tissue with planted truth, written as a complete Xenium output bundle.

What it is for: the app's first slide, and the source of known answers for tests and evaluation.

How it is made, one file per step:

- ``settings``: what decides a slide; every step draws from a random stream of its own;
- ``panel``, ``panel.csv``: about 340 real gene symbols and what they mark; ``planted``: the truth
  (co-localised pairs, contact genes, contact pairs) and its decoys;
- ``tissue``: zones (alveoli, airways, vessels, fibrotic foci, granulomas);
- ``placement``, ``shapes``: where cells lie, of which type, with which outline and nucleus;
- ``expression``: how many transcripts each cell makes; ``transcripts``, ``geometry``: where they
  lie, where they are counted (spillover, background) and with which QV; ``slide``: all of it;
- ``rasters``, ``images``: masks, DAPI-like stain, H&E-like section, OME-TIFF;
- ``cohort``: many donors, healthy and diseased, with random effects;
- ``tables``, ``clusters``, ``truth``, ``bundle``: the files; ``simulator``: the door.

Results depend on the settings alone: not on the number of threads, nor on the machine's load.
"""

from __future__ import annotations

from spatialformer_core.simulate.cohort import CohortReport, CohortSettings, simulate_cohort
from spatialformer_core.simulate.settings import SimulationReport, SimulationSettings
from spatialformer_core.simulate.simulator import simulate

__all__ = [
    "CohortReport",
    "CohortSettings",
    "SimulationReport",
    "SimulationSettings",
    "simulate",
    "simulate_cohort",
]
