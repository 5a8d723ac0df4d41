"""Tests, intervals and streaming moments; the replicate is chosen by the caller."""

from spatialformer_core.stats.bootstrap import Interval, bootstrap_interval, resampled_rows
from spatialformer_core.stats.moments import Moments
from spatialformer_core.stats.multiple import benjamini_hochberg
from spatialformer_core.stats.ttests import (
    TTest,
    VariancePrior,
    fit_variance_prior,
    moderated_t,
    one_sample_t,
    paired_t,
    t_interval,
)

__all__ = [
    "Interval",
    "Moments",
    "TTest",
    "VariancePrior",
    "benjamini_hochberg",
    "bootstrap_interval",
    "fit_variance_prior",
    "moderated_t",
    "one_sample_t",
    "paired_t",
    "resampled_rows",
    "t_interval",
]
