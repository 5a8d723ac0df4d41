"""Starting from another checkpoint's encoder."""

from __future__ import annotations

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import Checkpoint, SpatialFormer
from spatialformer_core.vocabulary import Vocabulary

_SAME = ("dim", "n_heads", "conv_kernel", "expansion", "magnitude_bins", "cooccurrence_rank")
_SHARED = ("embedding.", "blocks.", "token_head.", "cooccurrence_head.")


def warm_start(model: SpatialFormer, vocabulary: Vocabulary, source: Checkpoint) -> list[str]:
    """Copy the encoder's weights that both networks have; return their names.

    Architectures may differ: a cross-encoder can start from two towers, whose blocks are the
    same. Pair and niche heads are never copied, deeper blocks stay as they are.

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
    own = model.state_dict()
    copied = {
        name: value
        for name, value in source.model.state_dict().items()
        if name.startswith(_SHARED) and name in own
    }
    model.load_state_dict({**own, **copied})
    return sorted(copied)
