"""Tests, intervals and streaming moments; the replicate is chosen by the caller."""

from spatialformer_core.stats.bootstrap import Interval, bootstrap_interval, resampled_rows
from spatialformer_core.stats.logistic import deviance_explained, fit_grouped, grouped_auroc
from spatialformer_core.stats.moments import Moments
from spatialformer_core.stats.multiple import benjamini_hochberg
from spatialformer_core.stats.overlap import (
    MatchedMean,
    hypergeometric_p,
    matched_mean,
    smallest_p,
    strata_of,
    without_trend,
)
from spatialformer_core.stats.proportions import (
    UnitCounts,
    adjusted_shares,
    compare_shares,
    enough_seen,
    odds_ratio,
)
from spatialformer_core.stats.ttests import (
    TTest,
    VariancePrior,
    fit_variance_prior,
    moderated_t,
    moderated_two_sample_t,
    one_sample_t,
    paired_t,
    t_interval,
)
from spatialformer_core.stats.units import (
    BLOCK_SIZES_UM,
    MIN_PER_ARM,
    MIN_PER_UNIT,
    MIN_UNITS,
    CellUnitKind,
    CellUnits,
    Placed,
    best_level,
    block_corners,
    choose_cell_units,
)

__all__ = [
    "BLOCK_SIZES_UM",
    "MIN_PER_ARM",
    "MIN_PER_UNIT",
    "MIN_UNITS",
    "CellUnitKind",
    "CellUnits",
    "Interval",
    "MatchedMean",
    "Moments",
    "Placed",
    "TTest",
    "UnitCounts",
    "VariancePrior",
    "adjusted_shares",
    "benjamini_hochberg",
    "best_level",
    "block_corners",
    "bootstrap_interval",
    "choose_cell_units",
    "compare_shares",
    "deviance_explained",
    "enough_seen",
    "fit_grouped",
    "fit_variance_prior",
    "grouped_auroc",
    "hypergeometric_p",
    "matched_mean",
    "moderated_t",
    "moderated_two_sample_t",
    "odds_ratio",
    "one_sample_t",
    "paired_t",
    "resampled_rows",
    "smallest_p",
    "strata_of",
    "t_interval",
    "without_trend",
]
