import numpy as np
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.splits import (
    GAP,
    TEST,
    TRAIN,
    VALIDATION,
    SplitRecipe,
    split_by_recipe,
)


def tissue(n=2500, width=6000.0, height=2500.0, seed=0):
    return np.random.default_rng(seed).random((n, 2)) * (width, height)


def split(xy, **recipe):
    return split_by_recipe(xy, SplitRecipe(**recipe))


def closest(a, b):
    return np.min(np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1]))


@pytest.mark.parametrize("seed", range(4))
def test_no_two_codes_are_nearer_than_the_gap(seed):
    xy = tissue(seed=seed)
    codes = split(xy, seed=seed, patches=2)
    parts = [xy[codes == code] for code in (TRAIN, VALIDATION, TEST)]
    assert all(len(part) for part in parts)
    for one in range(3):
        for other in range(one):
            assert closest(parts[one], parts[other]) >= 150.0


def test_shares_are_near_the_wanted_ones_and_training_keeps_most():
    codes = split(tissue(), fractions=(0.75, 0.10, 0.15), patches=2)
    assert 0.07 < np.mean(codes == VALIDATION) < 0.14
    assert 0.11 < np.mean(codes == TEST) < 0.21
    assert np.mean(codes == TRAIN) > 0.55
    assert set(np.unique(codes)) == {GAP, TRAIN, VALIDATION, TEST}
    assert codes.dtype == np.int8


def test_same_seed_same_split_and_another_seed_another():
    xy = tissue()
    np.testing.assert_array_equal(split(xy, seed=3), split(xy, seed=3))
    assert np.any(split(xy, seed=3) != split(xy, seed=4))


def test_a_stored_recipe_gives_the_same_codes():
    xy = tissue()
    recipe = SplitRecipe(block_um=250.0, seed=5, patches=1)
    stored = recipe.model_dump(mode="json")
    np.testing.assert_array_equal(
        split_by_recipe(xy, stored), split(xy, block_um=250.0, seed=5, patches=1)
    )


def test_moving_the_tissue_moves_the_blocks_with_it():
    xy = tissue()
    np.testing.assert_array_equal(split(xy), split(xy + np.array([1000.0, -500.0])))


def test_several_patches_are_apart_in_space():
    xy = tissue(12_000)
    few, many = (split(xy, patches=p, seed=1) for p in (1, 4))
    spread = [np.ptp(xy[codes == TEST], axis=0).sum() for codes in (few, many)]
    assert spread[1] > spread[0]


def test_no_validation_wanted_gives_none():
    codes = split(tissue(), fractions=(0.8, 0.0, 0.2))
    assert not np.any(codes == VALIDATION)
    assert np.any(codes == TEST)


def test_too_small_a_tissue_is_refused_with_what_to_do():
    with pytest.raises(SpatialFormerError, match="too small") as caught:
        split(tissue(width=400.0, height=400.0))
    assert "fewer patches" in str(caught.value)


def test_no_cells_is_refused():
    with pytest.raises(SpatialFormerError, match="no cells"):
        split(np.empty((0, 2)))
