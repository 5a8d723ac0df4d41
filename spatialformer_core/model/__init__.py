"""The network: layout of the input, blocks, heads, checkpoints."""

from __future__ import annotations

from spatialformer_core.model.checkpoint import (
    Checkpoint,
    content_id,
    load_checkpoint,
    save_checkpoint,
)
from spatialformer_core.model.config import ModelConfig, preset_config
from spatialformer_core.model.layout import Packed, Rows, lay_out, pack
from spatialformer_core.model.spatialformer import SpatialFormer, build, n_parameters

__all__ = [
    "Checkpoint",
    "ModelConfig",
    "Packed",
    "Rows",
    "SpatialFormer",
    "build",
    "content_id",
    "lay_out",
    "load_checkpoint",
    "n_parameters",
    "pack",
    "preset_config",
    "save_checkpoint",
]
