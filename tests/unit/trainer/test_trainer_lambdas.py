"""Which tasks fade while a model trains."""

from __future__ import annotations

import pytest

from spatialformer_core.trainer.fit import _lambdas
from spatialformer_core.trainer.recipe import TrainRecipe


@pytest.mark.parametrize(("fades", "pair"), [(False, 1.0), (True, 0.75)])
def test_cooccurrence_fades_and_pairs_do_so_on_demand(fades, pair):
    recipe = TrainRecipe(
        name="toy",
        corpus="toy",
        model={"architecture": "two-tower"},
        objectives={"masked_weight": 0.2, "pair_fades": fades, "niche": {"weight": 0.5}},
        steps=4,
    )
    assert _lambdas(recipe, 0.25) == {
        "masked_tokens": 0.2,
        "cooccurrence": 0.75,
        "pair": pair,
        "niche": 0.5,
    }
