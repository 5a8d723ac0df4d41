"""Every performance figure, printed by one command."""

from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, Stage
from spatialformer_core.bench.stages import STAGES, run

__all__ = ["STAGES", "BenchOptions", "Row", "Stage", "run"]
