"""Starting from another checkpoint's encoder."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import Checkpoint, SpatialFormer
from spatialformer_core.vocabulary import Vocabulary

_SAME = ("dim", "n_heads", "conv_kernel", "expansion", "magnitude_bins", "cooccurrence_rank")
_BRANCHED = {"pair_head.": "pair_head.heads.0.", "niche_head.": "niche_head.heads.0."}
_SHARED = ("embedding.", "blocks.", "token_head.", "cooccurrence_head.")


def warm_start(model: SpatialFormer, vocabulary: Vocabulary, source: Checkpoint) -> list[str]:
    """Copy the encoder's weights that both networks have; return their names.

    Architectures may differ: a cross-encoder can start from two towers, whose blocks are the
    same. Deeper blocks stay as they are. Pair and niche heads are copied only from two towers
    into one with branches, whose blocks keep heads of their own.

    Raises
    ------
    SpatialFormerError
        If the vocabularies or the shape of a block differ.
    """
    if source.vocabulary.fingerprint != vocabulary.fingerprint:
        raise SpatialFormerError(
            f"The checkpoint {source.name!r} has another vocabulary than the corpus.",
            fix="Start from a checkpoint that was trained on the same corpus.",
        )
    for field in _SAME:
        ours, theirs = getattr(model.config, field), getattr(source.config, field)
        if ours != theirs:
            raise SpatialFormerError(
                f"The model has {field} {ours}, the checkpoint {source.name!r} has {theirs}.",
                fix="Give the recipe's model the same value.",
            )
    own, theirs = model.state_dict(), source.model.state_dict()
    copied = {k: v for k, v in theirs.items() if k.startswith(_SHARED) and k in own}
    if model.config.expression_members and not source.config.expression_width:
        copied |= _heads_of_blocks(theirs, own)
    model.load_state_dict({**own, **copied})
    return sorted(copied)


def _heads_of_blocks(theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the heads of plain two towers as those of the blocks' branch, where they fit."""
    found = {}
    for old, new in _BRANCHED.items():
        for name, value in theirs.items():
            target = name.replace(old, new, 1)
            if name.startswith(old) and target in own and own[target].shape == value.shape:
                found[target] = value
    return found
