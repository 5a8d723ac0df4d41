"""The network in both architectures: one encoder, different heads."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model.config import ModelConfig
from spatialformer_core.model.expression import ExpressionPath
from spatialformer_core.model.heads import (
    AnyCooccurrenceHead,
    AnyTowerHead,
    BranchedNicheHead,
    BranchedPairHead,
    ClsPairHead,
    NicheHead,
    TowerPairHead,
    cooccurrence_head,
)
from spatialformer_core.model.layers import AttentionBlock, ConvBlock
from spatialformer_core.model.layout import Packed, lay_out, pack
from spatialformer_core.model.windows import find_windows

_N_SEGMENTS = 3
_TOKEN_STD = 0.1
_SIDE_STD = 0.05


class Embedding(nn.Module):
    """Token + segment (+ magnitude) (+ gene-spatial vector), dropout, LayerNorm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.n_tokens, config.dim)
        self.segment = nn.Embedding(_N_SEGMENTS, config.dim)
        nn.init.normal_(self.token.weight, std=_TOKEN_STD)
        nn.init.normal_(self.segment.weight, std=_SIDE_STD)
        self.magnitude: nn.Embedding | None = None
        if config.magnitude_bins:
            self.magnitude = nn.Embedding(config.magnitude_bins + 1, config.dim)
            nn.init.normal_(self.magnitude.weight, std=_SIDE_STD)
        self.spatial: nn.Embedding | None = None
        self.spatial_projection: nn.Linear | None = None
        if config.gene_spatial != "none":
            width = config.gene_spatial_dim or config.dim
            self.spatial = nn.Embedding(config.n_tokens, width)
            # Zero until `set_gene_spatial` fills it: an unknown gene has no place in space.
            nn.init.zeros_(self.spatial.weight)
            self.spatial.weight.requires_grad_(config.gene_spatial == "trainable")
            if config.gene_spatial_dim:
                self.spatial_projection = nn.Linear(width, config.dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, batch: Packed) -> Float[Tensor, "T D"]:
        """Embed the packed rows."""
        x: Tensor = self.token(batch.tokens) + self.segment(batch.segments)
        if self.magnitude is not None:
            x = x + self.magnitude(batch.magnitudes)
        if self.spatial is not None:
            vectors = self.spatial(batch.tokens)
            projection = self.spatial_projection
            x = x + (vectors if projection is None else projection(vectors))
        out: Tensor = self.norm(self.dropout(x))
        return out

    @torch.no_grad()
    def set_gene_spatial(self, table: Float[Tensor, "V S"]) -> None:
        """Fill the gene-spatial table, one row per token (zero rows: no vector known).

        Raises
        ------
        SpatialFormerError
            If the model has no such table, or its shape is another, or a value is not finite.
        """
        wanted = None if self.spatial is None else tuple(self.spatial.weight.shape)
        if self.spatial is None or tuple(table.shape) != wanted:
            raise SpatialFormerError(
                f"The gene embedding is {tuple(table.shape)}, the model wants {wanted}.",
                fix="Give the model's recipe gene_spatial and, as gene_spatial_dim, the width of "
                "the embedding (0 if that is the model's own width).",
            )
        if not bool(torch.isfinite(table).all()):
            raise SpatialFormerError("The gene embedding holds NaN or infinity.")
        self.spatial.weight.copy_(table)


class Block(nn.Module):
    """Convolution, then attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.conv = ConvBlock(config)
        self.attention = AttentionBlock(config)

    def forward(self, x: Float[Tensor, "T D"], batch: Packed) -> Float[Tensor, "T D"]:
        """Return the block's output for packed rows."""
        out: Tensor = self.attention(self.conv(x, batch), batch)
        return out

    def forward_cls(self, x: Float[Tensor, "T D"], batch: Packed) -> Float[Tensor, "B D"]:
        """Return the block's output at CLS only."""
        return self.attention.forward_cls(self.conv(x, batch), batch)


class SpatialFormer(nn.Module):
    """Encoder of single cells or pairs of cells, with its heads.

    Parameters
    ----------
    config
        Architecture and size.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_blocks))
        self.token_head = nn.Linear(config.dim, config.n_tokens)
        self.cooccurrence_head: AnyCooccurrenceHead = cooccurrence_head(config)
        members = config.expression_members
        joined = config.expression_width and not members
        self.expression = ExpressionPath(config) if joined else None
        self.members = nn.ModuleList(ExpressionPath(config) for _ in range(members))
        self.pair_head: ClsPairHead | AnyTowerHead
        self.niche_head: NicheHead | BranchedNicheHead | None = None
        if config.architecture == "two-tower":
            self.pair_head = BranchedPairHead(config) if members else TowerPairHead(config)
            if config.niche_targets:
                self.niche_head = BranchedNicheHead(config) if members else NicheHead(config)
        else:
            self.pair_head = ClsPairHead(config)

    def collate(self, cells: CellTokens, right: CellTokens | None = None) -> Packed:
        """Lay cells or pairs of cells out for this network, on its device."""
        rows = lay_out(cells, right, self.config.magnitude_bins)
        return pack(rows, self.config.conv_kernel).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.token.weight.device

    def hidden(self, batch: Packed) -> Float[Tensor, "T D"]:
        """Return the blocks' last layer at every packed row."""
        x: Tensor = self.embedding(batch)
        for block in self.blocks:
            x = block(x, batch)
        return x

    @property
    def paths(self) -> list[ExpressionPath]:
        """All expression paths."""
        every = [self.expression, *self.members]
        return [path for path in every if isinstance(path, ExpressionPath)]

    def cls(self, batch: Packed) -> Float[Tensor, "B D"]:
        """Return the state of each cell or pair, in packed order, ``config.state_dim`` wide.

        Without an expression path it is the blocks' last layer at CLS, and no other row of that
        layer is computed.
        """
        return self.states(self._blocks_cls(batch) if self.config.blocks_trained else None, batch)

    def states(self, cls: Float[Tensor, "B C"] | None, batch: Packed) -> Float[Tensor, "B D"]:
        """Return the states of cells whose CLS states are known; None: the blocks say nothing."""
        said = [self._said(path, batch) for path in self.paths]
        if not said and cls is not None:
            return cls
        if self.expression is None:
            return torch.cat([torch.zeros_like(said[0]) if cls is None else cls, *said], -1)
        gate = self.expression.gate
        return said[0] if cls is None or gate is None else said[0] + gate * cls

    def _blocks_cls(self, batch: Packed) -> Float[Tensor, "B D"]:
        first, *others = self._typed_blocks()
        x, qkv = self._begun(first, batch)
        if not others:
            return first.attention.forward_cls(x, batch)
        x = first.attention(x, batch, qkv)
        *between, last = others
        for block in between:
            x = block(x, batch)
        return last.forward_cls(x, batch)

    def _begun(
        self, first: Block, batch: Packed
    ) -> tuple[Float[Tensor, "T D"], Float[Tensor, "T 3D"] | None]:
        """Return the rows after the first convolution, and their qkv where it is known."""
        shared = None
        if not self.training and not torch.is_grad_enabled() and batch.tokens.device.type == "cpu":
            shared = find_windows(batch, self.config.conv_kernel)
        if shared is None:
            return first.conv(self.embedding(batch), batch), None
        kinds: Tensor = self.embedding(shared.embedded(batch))
        conv = first.conv
        mixed = shared.convolved(conv.gated(kinds), conv.depthwise.weight)
        rows = conv.finish(kinds[shared.centre], mixed)
        qkv = first.attention.qkv(rows)[shared.number] if self.config.n_blocks > 1 else None
        return rows[shared.number], qkv

    @staticmethod
    def _said(path: ExpressionPath, batch: Packed) -> Float[Tensor, "B C"]:
        out: Tensor = path(batch)
        return out

    def _typed_blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]


def build(config: ModelConfig, seed: int | None = None) -> SpatialFormer:
    """Return a network with fresh weights.

    Parameters
    ----------
    config
        Architecture and size.
    seed
        Of the weights; the caller's random state stays untouched. None: from the global state.
    """
    if seed is None:
        return SpatialFormer(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpatialFormer(config)


def n_parameters(model: nn.Module) -> int:
    """Return how many numbers the network has, frozen ones included."""
    return sum(p.numel() for p in model.parameters())
