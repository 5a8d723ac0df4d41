"""What a network looks like: architecture, size and the two in one frozen record."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from spatialformer_core.config import FrozenModel
from spatialformer_core.errors import SpatialFormerError

Architecture = Literal["cross-encoder", "two-tower"]
Preset = Literal["tiny", "small", "base", "published-61", "published-71"]
CooccurrenceKind = Literal["symmetric", "bilinear", "additive"]
GeneSpatial = Literal["none", "trainable", "frozen"]
SourceAttention = Literal["own", "head-major", "split"]

_PUBLISHED = {
    "dim": 512,
    "n_blocks": 10,
    "n_heads": 64,
    "cooccurrence_rank": 128,
    "pair_hidden": 512,
    "gene_spatial": "trainable",
}
_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"dim": 16, "n_blocks": 1, "n_heads": 2, "cooccurrence_rank": 8, "pair_hidden": 16},
    "small": {"dim": 64, "n_blocks": 2, "n_heads": 4, "cooccurrence_rank": 32, "pair_hidden": 64},
    "base": {
        "dim": 512,
        "n_blocks": 10,
        "n_heads": 8,
        "cooccurrence_rank": 128,
        "pair_hidden": 512,
    },
    "published-61": {
        **_PUBLISHED,
        "cooccurrence_head": "additive",
        "cooccurrence_trained": False,
        "source_attention": "head-major",
    },
    "published-71": {
        **_PUBLISHED,
        "cooccurrence_head": "bilinear",
        "source_attention": "split",
    },
}


class ModelConfig(FrozenModel):
    """Everything that decides the shapes and the meaning of the weights.

    The upper bounds are caps for untrusted checkpoints: nothing larger is ever allocated.

    Attributes
    ----------
    architecture
        ``cross-encoder``: both cells in one sequence (the paper). ``two-tower``: each cell encoded
        by itself, then a symmetric head on the two embeddings.
    preset
        The size that the dimensions below were taken from.
    n_tokens
        Vocabulary size.
    dim, n_blocks, n_heads, conv_kernel, expansion
        Width, number of convolution-attention blocks, attention heads, taps of the depthwise
        convolution, and width of a gated feed-forward layer before its gate in units of ``dim``.
    dropout
        Dropped share inside the blocks while training.
    cooccurrence_rank
        Rank of the symmetric gene-pair interaction of the co-occurrence head.
    pair_hidden
        Hidden width of the two-tower pair head.
    niche_targets
        Outputs of the auxiliary niche head (two-tower; 0: no such head).
    expression_width
        Width of the expression path beside the token sequence (two-tower; 0: no such path). It
        reads the same tokens and counts, and what it says is added to the CLS state.
    expression_members
        0: the path's output is added to the CLS state. Otherwise so many such paths stand beside
        the blocks, each of these branches with pair and niche heads of its own; a cell's state is
        all of theirs, and a pair's score the mean of their logits.
    expression_pair_hidden
        Hidden width of the pair heads of those paths (0: ``pair_hidden``).
    expression_dropout, gene_dropout
        Share of the path's hidden units, and of a cell's genes in its sum, that are dropped while
        training.
    magnitude_bins
        Number of bins of a gene's raw count that are shown beside its rank (0: ranks only).
    gene_spatial
        Whether a table of gene vectors from the transcript graph is added to the tokens, and
        whether training changes it.
    gene_spatial_dim
        Width of that table if it is projected to ``dim``; 0: as wide as the model, added as it is
        (the published models).
    cooccurrence_head
        ``symmetric`` (ours): a symmetric low-rank interaction. ``bilinear``: the low-rank product
        of the 71-slide models, not symmetric. ``additive``: a sum of two gene scores, the
        61-slide models; it can represent no interaction.
    cooccurrence_trained, pair_trained, token_trained
        Whether that head was trained to any use, with the blocks as they are. False for the
        co-occurrence head of 61-slide models, for the pair head of single-cell models, and for a
        head that took no part in the last training run.
    blocks_trained
        False: the blocks are as they came, take no part in the CLS state and are skipped; what
        stands there is the expression path alone (its first stage of training).
    source_attention
        How queries, keys and values lay in the file that the weights were converted from:
        ``head-major`` (scaled by ``dim ** -0.5``) or ``split`` (by the head's width ``** -0.5``).
        The weights are always stored in our own layout; this records what they were read as.
    """

    architecture: Architecture
    preset: Preset = "small"
    n_tokens: int = Field(ge=6, le=200_000)
    dim: int = Field(ge=8, le=2048)
    n_blocks: int = Field(ge=1, le=48)
    n_heads: int = Field(ge=1, le=128)
    conv_kernel: int = Field(default=17, ge=1, le=129)
    expansion: int = Field(default=4, ge=2, le=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    cooccurrence_rank: int = Field(ge=1, le=1024)
    pair_hidden: int = Field(ge=1, le=4096)
    niche_targets: int = Field(default=0, ge=0, le=1024)
    expression_width: int = Field(default=0, ge=0, le=4096)
    expression_members: int = Field(default=0, ge=0, le=8)
    expression_pair_hidden: int = Field(default=0, ge=0, le=4096)
    expression_dropout: float = Field(default=0.3, ge=0, lt=1)
    gene_dropout: float = Field(default=0.0, ge=0, lt=1)
    magnitude_bins: int = Field(default=0, ge=0, le=64)
    gene_spatial: GeneSpatial = "none"
    gene_spatial_dim: int = Field(default=0, ge=0, le=4096)
    cooccurrence_head: CooccurrenceKind = "symmetric"
    cooccurrence_trained: bool = True
    pair_trained: bool = True
    token_trained: bool = True
    blocks_trained: bool = True
    source_attention: SourceAttention = "own"

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} is no multiple of n_heads {self.n_heads}")
        if self.conv_kernel % 2 == 0:
            raise ValueError(f"conv_kernel {self.conv_kernel} is even; symmetric taps need odd")
        if self.expansion % 2:
            raise ValueError(f"expansion {self.expansion} is odd; the gate takes half of it")
        if self.niche_targets and self.architecture != "two-tower":
            raise ValueError("niche_targets belong to the two-tower architecture")
        if self.expression_width and self.architecture != "two-tower":
            raise ValueError("expression_width belongs to the two-tower architecture")
        if self.expression_members and not self.expression_width:
            raise ValueError("expression_members want an expression_width")
        if not (self.blocks_trained or self.expression_width):
            raise ValueError("without trained blocks an expression_width is needed")
        if self.preset.startswith("published") and self.architecture != "cross-encoder":
            raise ValueError(f"{self.preset} is a cross-encoder")
        if self.gene_spatial_dim and self.gene_spatial == "none":
            raise ValueError("gene_spatial_dim is given, but gene_spatial is none")
        return self

    @property
    def state_dim(self) -> int:
        """Width of a cell's state: of CLS, and of all branches where they stand side by side."""
        return self.dim * (1 + self.expression_members)


def preset_config(
    architecture: Architecture, preset: Preset, n_tokens: int, **changes: Any
) -> ModelConfig:
    """Return the configuration of a preset, with single fields changed.

    Raises
    ------
    SpatialFormerError
        If the preset is unknown or a change is invalid.
    """
    if preset not in _SIZES:
        raise SpatialFormerError(
            f"Unknown model preset {preset!r}.", fix=f"Choose one of {', '.join(_SIZES)}."
        )
    values = {"architecture": architecture, "preset": preset, "n_tokens": n_tokens}
    # Imported here: `validate` turns pydantic's report into one sentence for the user.
    from spatialformer_core.config import validate

    return validate(ModelConfig, {**values, **_SIZES[preset], **changes}, "model")
