"""Merging LoRA weights in peft's layout into the weights that they change.

``W + alpha / r * B A``. The file gives A (rank r) and B; alpha is not in it. The published
fine-tuning used alpha = 2 r in both of its settings, which is the default here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model.published import checked

DEFAULT_SCALING = 2.0
_PREFIX = re.compile(r"^(?:.*?\.)?base_model\.model\.")
_FACTOR = re.compile(r"^(?P<layer>.+)\.lora_(?P<which>[AB])(?:\.[^.]+)?\.weight$")


def has_lora(state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights are in peft's layout."""
    return any(_PREFIX.match(key) or _FACTOR.match(key) for key in state)


def merge_lora(
    state: Mapping[str, Tensor],
    base: Mapping[str, Tensor] | None = None,
    alpha: float | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Merge LoRA factors into their layers.

    Parameters
    ----------
    state
        Weights in peft's layout: the whole model with its factors, or the factors alone.
    base
        The weights that the factors belong to, if ``state`` holds the factors alone.
    alpha
        LoRA's alpha; None: twice the rank.

    Returns
    -------
    dict, dict
        Plain weights, and ``layers``, ``rank`` and ``scaling`` for the provenance.

    Raises
    ------
    SpatialFormerError
        If a factor lacks its partner or its layer, shapes disagree, ranks differ, or there is
        something else of peft's (for example DoRA's magnitudes).
    """
    plain: dict[str, Tensor] = dict(base or {})
    factors: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name = _PREFIX.sub("", key)
        found = _FACTOR.match(name)
        if found:
            factors.setdefault(found["layer"], {})[found["which"]] = value
        elif "lora_" in name:
            raise SpatialFormerError(
                f"The file holds {name!r}; only plain LoRA (A and B) can be merged.",
                fix="Merge it with peft (merge_and_unload) and convert the result.",
            )
        else:
            plain[name.replace(".base_layer.", ".")] = value
    ranks = set()
    for layer, pair in factors.items():
        target = f"{layer}.weight"
        if set(pair) != {"A", "B"} or target not in plain:
            raise SpatialFormerError(
                f"LoRA of {layer!r} lacks its other factor or the layer's own weight.",
                fix="If the file holds the adapter alone, give the model it belongs to (--base).",
            )
        plain[target], rank = _merged(plain, target, pair, alpha)
        ranks.add(rank)
    if len(ranks) > 1:
        raise SpatialFormerError(f"The LoRA ranks differ ({sorted(ranks)}).")
    rank = ranks.pop() if ranks else 0
    scaling = DEFAULT_SCALING if alpha is None or not rank else alpha / rank
    return plain, {"layers": len(factors), "rank": rank, "scaling": scaling}


def _merged(
    plain: Mapping[str, Tensor], target: str, pair: Mapping[str, Tensor], alpha: float | None
) -> tuple[Tensor, int]:
    weight = checked(plain, target)
    a, b = checked(pair, "A"), checked(pair, "B")
    rank = a.shape[0]
    fits = a.ndim == b.ndim == 2 and b.shape[1] == rank
    if not fits or (b.shape[0], a.shape[1]) != tuple(weight.shape):
        raise SpatialFormerError(
            f"LoRA factors {tuple(b.shape)} x {tuple(a.shape)} do not fit {target!r} "
            f"{tuple(weight.shape)}."
        )
    scaling = DEFAULT_SCALING if alpha is None else alpha / rank
    return weight + scaling * (b @ a), rank
