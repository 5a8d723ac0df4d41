"""What was planted, as JSON, and the granulomas as regions of interest."""

from __future__ import annotations

from typing import Any

import numpy as np

from spatialformer_core.arrays import DoubleArray
from spatialformer_core.simulate import planted
from spatialformer_core.simulate.panel import CELL_TYPES, load_panel
from spatialformer_core.simulate.settings import only_in_cohorts
from spatialformer_core.simulate.slide import SimulatedSlide

_ROI_CORNERS = 48
_CAPSULE_UM = 12.0


def planted_truth(slide: SimulatedSlide, he_um_from_px: DoubleArray | None) -> dict[str, Any]:
    """Return everything that ``truth.json`` lists.

    Parameters
    ----------
    slide
        The slide.
    he_um_from_px
        Matrix from H&E pixels to um, None without an H&E picture.
    """
    relations = {
        "colocalised_pairs": planted.COLOCALISED_PAIRS,
        "colocalisation_decoys": planted.COLOCALISATION_DECOYS,
        "contact_genes": planted.CONTACT_GENES,
        "contact_pairs": planted.CONTACT_PAIRS,
        "contact_pair_decoys": planted.CONTACT_PAIR_DECOYS,
        "zone_genes": planted.ZONE_GENES,
        "spillover_genes": planted.SPILLOVER_GENES,
    }
    structures = [
        {
            "kind": s.kind,
            "x_um": round(s.x_um, 2),
            "y_um": round(s.y_um, 2),
            "radius_um": round(s.radius_um, 2),
        }
        for s in slide.tissue.structures
    ]
    return {
        "simulated": True,
        "planted": slide.settings.planted,
        "seed": slide.settings.seed,
        "settings": slide.settings.model_dump(exclude=only_in_cohorts(slide.settings)),
        "cell_types": list(CELL_TYPES),
        "n_genes": load_panel().n_genes,
        "side_um": slide.tissue.side_um,
        "touch_um": planted.TOUCH_UM,
        "spot_sd_um": planted.SPOT_SD_UM,
        "he_um_from_px": None if he_um_from_px is None else he_um_from_px.tolist(),
        "structures": structures,
        **{key: [rule.model_dump() for rule in rules] for key, rules in relations.items()},
    }


def granuloma_rois(slide: SimulatedSlide) -> dict[str, Any]:
    """Return a GeoJSON FeatureCollection (um) with one polygon for each granuloma."""
    turn = np.linspace(0, 2 * np.pi, _ROI_CORNERS + 1)
    # The outline of a granuloma is wavy; its capsule lies within this circle.
    features = []
    for number, granuloma in enumerate(slide.tissue.of_kind("granuloma"), start=1):
        radius = granuloma.radius_um + _CAPSULE_UM
        ring = np.column_stack(
            [granuloma.x_um + radius * np.cos(turn), granuloma.y_um + radius * np.sin(turn)]
        ).round(2)
        ring[-1] = ring[0]
        features.append(
            {
                "type": "Feature",
                "properties": {"name": f"granuloma {number}", "unit": f"granuloma {number}"},
                "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
            }
        )
    return {"type": "FeatureCollection", "features": features}
