"""What a screen says of how its effects were found: mode, recall, controls, targets."""

from __future__ import annotations

from typing import Any

from spatialformer_core.perturbation.control import NEIGHBOURS
from spatialformer_core.perturbation.cost import Mode
from spatialformer_core.perturbation.effects import Found
from spatialformer_core.perturbation.request import ScreenRequest
from spatialformer_core.perturbation.targets import Targets

_COUNTED = {
    "eroded": "Only transcripts at least {0:g} um inside the outline of their cell were counted.",
    "nucleus": "Only transcripts over nuclei were counted.",
}
_CONTROL = {
    "subtract": "The effect of its control is subtracted from each: ",
    "beside": "Effects are reported as they are; those less their controls stand beside them: ",
}


def how_found(
    info: dict[str, Any], request: ScreenRequest, mode: Mode, found: Found, targets: Targets
) -> dict[str, Any]:
    """Return the facts of a screen with mode, recall, controls and targets, and their sentences."""
    sentences = [info["methods"]]
    absent = dict(info["not_computed"])
    recall = found.facts["recall"] if mode == "screened" else None
    if recall is not None:
        absent.pop("measured_recall", None)
        sentences.append(_recall_sentence(request, recall))
    else:
        sentences.append("Every effect was computed exactly, in fp32.")
    if request.control != "none":
        sentences.append(
            f"{_CONTROL[request.control]}the same knock-out of a random gene (seed "
            f"{request.seed}) at most {NEIGHBOURS} ranks away in the same cell, both genes of a "
            "pair having one."
        )
    if request.counts != "cell":
        sentences.append(_COUNTED[request.counts].format(request.erosion_um))
    if not targets.every_gene:
        sentences.append(f"Knocked out were {len(targets)} chosen genes and gene sets only.")
    return {
        **info,
        "mode": mode,
        "measured_recall": recall,
        "control": request.control,
        "targets": None if targets.every_gene else list(targets.names),
        "genes_unknown": list(targets.unknown),
        "not_computed": absent,
        "methods": " ".join(sentences),
    }


def _recall_sentence(request: ScreenRequest, recall: dict[str, Any]) -> str:
    return (
        f"Screened: exact single knock-outs and a low-rank approximation proposed "
        f"{request.candidates:,} gene pairs, which alone are reported, evaluated exactly in every "
        f"cell pair; q counts all tested gene pairs, the others with approximate effects. In "
        f"{recall['cell_pairs']} random cell pairs evaluated fully, {recall['d']:.1%} of the "
        f"strongest {recall['top']} gene pairs by effect, and {recall['epsilon']:.1%} by "
        f"interaction, are among the {recall['within']} proposed first."
    )
