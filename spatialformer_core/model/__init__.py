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
from spatialformer_core.model.lora import has_lora, merge_lora
from spatialformer_core.model.published import (
    DROPPED,
    Layout,
    Published,
    convert_published,
    in_other_layout,
    published_config,
)
from spatialformer_core.model.spatialformer import SpatialFormer, build, n_parameters
from spatialformer_core.model.torch_file import TorchFile, read_torch_file

__all__ = [
    "DROPPED",
    "Checkpoint",
    "Layout",
    "ModelConfig",
    "Packed",
    "Published",
    "Rows",
    "SpatialFormer",
    "TorchFile",
    "build",
    "content_id",
    "convert_published",
    "has_lora",
    "in_other_layout",
    "lay_out",
    "load_checkpoint",
    "merge_lora",
    "n_parameters",
    "pack",
    "preset_config",
    "published_config",
    "read_torch_file",
    "save_checkpoint",
]
