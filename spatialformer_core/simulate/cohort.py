"""A cohort: donors with random effects of their own, healthy and diseased.

Each donor is a bundle as `simulate` writes it. What differs between donors at random: the level
of every gene, the depth, how strongly contact changes genes, and how strongly disease does. What
differs between the conditions: granulomas, the programme that macrophages and T cells of one
place share, and the disease genes. ``cohort.csv`` is a sheet for ``spatialformer ingest
--cohort``; ``truth.json`` lists every donor's effects. For screens of all slides together
``granulomas.geojson`` joins the bundles' own, ``healthy.geojson`` and ``disease.geojson`` hold the
whole slides.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, model_validator

from spatialformer_core.config import FrozenModel
from spatialformer_core.files import (
    atomic_directory,
    atomic_write,
    check_name,
    read_json,
    write_json,
)
from spatialformer_core.progress import Cancel, Progress, never, silent, staged
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.expression import donor_levels
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.simulate.settings import DonorEffects, SimulationSettings, stream
from spatialformer_core.simulate.simulator import simulate

DISEASE_GENES: Final[dict[str, float]] = {
    "VIM": 1.8,
    "SPARC": 2.2,
    "IL32": 2.5,
    "CHI3L1": 2.5,
    "LGALS1": 0.55,
    "EPCAM": 0.5,
}
"""Mean fold of each gene in diseased donors, in all cells; none has another planted role."""

SHEET, TRUTH, GRANULOMAS = "cohort.csv", "truth.json", "granulomas.geojson"


class CohortSettings(FrozenModel):
    """Everything that decides a cohort.

    Attributes
    ----------
    seed
        Of the donors and their tissues.
    healthy, disease
        Number of donors.
    cells, depth, he, planted
        Of every slide, as in `SimulationSettings`; the depth is the mean over donors.
    depth_sd, contact_sd, disease_sd
        Spread over donors (of the logarithm) of the depth, of the strength of contact, and of the
        disease genes' log folds.
    """

    seed: int = Field(default=1, ge=0, lt=2**32)
    healthy: int = Field(default=3, ge=0, le=100)
    disease: int = Field(default=3, ge=0, le=100)
    cells: int = Field(default=20_000, ge=200, le=1_000_000)
    depth: float = Field(default=1.0, gt=0, le=2)
    he: bool = True
    planted: bool = True
    depth_sd: float = Field(default=0.15, ge=0, le=0.5)
    contact_sd: float = Field(default=0.25, ge=0, le=1)
    disease_sd: float = Field(default=0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _check_donors(self) -> CohortSettings:
        if not self.healthy + self.disease:
            message = "a cohort needs a donor: healthy and disease are both 0"
            raise ValueError(message)
        return self


class CohortReport(FrozenModel):
    """What was written.

    Attributes
    ----------
    name, sheet
        Name of the folder, and of its sheet.
    healthy, disease, cells, transcripts
        Donors, and cells and transcripts of all of them.
    seconds
        Wall time.
    """

    name: str
    sheet: str
    healthy: int
    disease: int
    cells: int
    transcripts: int
    seconds: float


def cohort_donors(settings: CohortSettings) -> list[SimulationSettings]:
    """Return what each donor's slide is made from, healthy ones first.

    Adding donors of one condition leaves the other donors as they are.
    """
    healthy = [_donor(settings, "healthy", k + 1) for k in range(settings.healthy)]
    return healthy + [_donor(settings, "disease", k + 1) for k in range(settings.disease)]


def _donor(
    settings: CohortSettings, condition: Literal["healthy", "disease"], number: int
) -> SimulationSettings:
    name = f"{condition}-{number}"
    rng = stream(settings.seed, "cohort", name)
    depth, contact = np.exp(rng.normal(0, (settings.depth_sd, settings.contact_sd)))
    noise = rng.normal(0, settings.disease_sd, len(DISEASE_GENES))
    folds = dict.fromkeys(DISEASE_GENES, 1.0)
    if condition == "disease" and settings.planted:
        logs = np.log(list(DISEASE_GENES.values()))
        folds = dict(
            zip(DISEASE_GENES, np.exp(logs * np.exp(noise)).round(4).tolist(), strict=True)
        )
    return SimulationSettings(
        seed=int(rng.integers(2**32)),
        cells=settings.cells,
        depth=round(float(settings.depth * depth), 4),
        donor=f"cohort-{settings.seed}-{name}",
        he=settings.he,
        planted=settings.planted,
        effects=DonorEffects(
            condition=condition,
            contact_strength=round(float(np.clip(contact, 0.05, 10)), 4),
            disease_folds=folds,
        ),
    )


def simulate_cohort(
    out: Path,
    settings: CohortSettings,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> CohortReport:
    """Write one bundle per donor, the sheet to ingest them by, and the truth.

    Parameters
    ----------
    out
        Folder to make; it appears whole or not at all.
    settings
        What to make; equal settings give an equal cohort.
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
    name = check_name(out.name, "The cohort's name")
    donors = cohort_donors(settings)
    reports = []
    with atomic_directory(out) as folder:
        for number, donor in enumerate(donors):
            part = staged(progress, number / len(donors), (number + 1) / len(donors))
            reports.append(simulate(folder / donor.donor, donor, part, cancel))
        _write_sheet(donors, folder / SHEET)
        _write_regions(donors, [report.side_um for report in reports], folder)
        write_json(folder / TRUTH, cohort_truth(settings, donors))
    return CohortReport(
        name=name,
        sheet=SHEET,
        healthy=settings.healthy,
        disease=settings.disease,
        cells=sum(report.cells for report in reports),
        transcripts=sum(report.transcripts for report in reports),
        seconds=round(time.monotonic() - began, 2),
    )


def cohort_truth(settings: CohortSettings, donors: list[SimulationSettings]) -> dict[str, Any]:
    """Return what differs between the donors, and what between the conditions."""
    genes = load_panel().genes
    return {
        "simulated": True,
        "settings": settings.model_dump(),
        "disease_genes": DISEASE_GENES if settings.planted else {},
        "contact_pairs_in": ["disease"] if settings.planted else [],
        "contact_pairs": [rule.model_dump() for rule in planted.CONTACT_PAIRS],
        "donors": [
            {
                "donor": donor.donor,
                "seed": donor.seed,
                "depth": donor.depth,
                **(donor.effects.model_dump() if donor.effects else {}),
                "gene_levels": dict(
                    zip(genes, donor_levels(donor.donor).round(6).tolist(), strict=True)
                ),
            }
            for donor in donors
        ],
    }


def _write_sheet(donors: list[SimulationSettings], path: Path) -> None:
    columns = ("source", "name", "donor", "block", "condition", "tissue", "species", "assay")
    with atomic_write(path, "w") as stream:
        sheet = csv.writer(stream, lineterminator="\n")
        sheet.writerow((*columns, "labels"))
        for donor in donors:
            condition = donor.effects.condition if donor.effects else ""
            named = [donor.donor] * 3
            where = ["Lung", "Human", "Xenium", f"{donor.donor}/labels.csv"]
            sheet.writerow([*named, "1", condition, *where])


def _write_regions(donors: list[SimulationSettings], sides_um: list[float], folder: Path) -> None:
    """Write the granulomas of all donors, and the whole slides of each condition."""
    regions: dict[str, list[dict[str, Any]]] = {GRANULOMAS: []}
    for donor, side in zip(donors, sides_um, strict=True):
        name = donor.donor
        for region in read_json(folder / name / GRANULOMAS)["features"]:
            region["properties"]["slide_id"] = name
            regions[GRANULOMAS].append(region)
        corners = [[0.0, 0.0], [side, 0.0], [side, side], [0.0, side], [0.0, 0.0]]
        whole = {
            "type": "Feature",
            "properties": {"name": name, "unit": name, "slide_id": name},
            "geometry": {"type": "Polygon", "coordinates": [corners]},
        }
        condition = donor.effects.condition if donor.effects else ""
        regions.setdefault(f"{condition}.geojson", []).append(whole)
    for file, features in regions.items():
        write_json(folder / file, {"type": "FeatureCollection", "features": features})
