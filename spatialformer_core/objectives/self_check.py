"""Whether a network reads its tokens as it was trained to: the masked-token score on cells."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from spatialformer_core.arrays import CellTokens
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.model import SpatialFormer, lay_out, pack
from spatialformer_core.objectives.losses import masked_token_loss
from spatialformer_core.objectives.masking import mask_tokens

MAX_CELLS = 256
_SEED = 20_261_121
_BATCH = 32
_MARGIN_NATS = 0.05


@dataclass(frozen=True, slots=True)
class MaskedScore:
    """How well hidden tokens are found.

    Attributes
    ----------
    nats
        Mean cross-entropy over the hidden tokens.
    baseline_nats
        The same for a guess by how often each token stands in these very cells.
    tokens
        Hidden tokens.
    """

    nats: float
    baseline_nats: float
    tokens: int


@torch.no_grad()
def masked_token_score(model: SpatialFormer, cells: CellTokens, gene_offset: int) -> MaskedScore:
    """Score a network on the genes that are hidden from at most 256 cells, the same each time.

    Parameters
    ----------
    model
        In evaluation mode.
    cells
        Tokens of the model's vocabulary.
    gene_offset
        Id of the vocabulary's first gene; only genes are hidden.

    Raises
    ------
    SpatialFormerError
        If the cells hold no gene that could be hidden, or the head was not trained with the
        blocks as they are.
    """
    if not model.config.token_trained:
        raise SpatialFormerError(
            "The masked-token head of this checkpoint was not trained with its last blocks.",
            fix="Ask a checkpoint whose last run had masked tokens among its objectives.",
        )
    rng = np.random.default_rng(_SEED)
    full = np.flatnonzero(cells.lengths > 0)
    chosen = np.sort(rng.permutation(full)[:MAX_CELLS])
    total, count, targets = 0.0, 0, []
    for k in range(0, len(chosen), _BATCH):
        rows = lay_out(cells.take(chosen[k : k + _BATCH]), None, model.config.magnitude_bins)
        masked = mask_tokens(
            rows.tokens, gene_offset=gene_offset, n_tokens=model.config.n_tokens, seed=(_SEED, k)
        )
        gene = masked.targets >= gene_offset
        at, wanted = masked.positions[gene], masked.targets[gene]
        magnitudes, counts = rows.magnitudes.copy(), rows.counts.copy()
        magnitudes[at] = counts[at] = 0
        seen = replace(rows, tokens=masked.tokens, magnitudes=magnitudes, counts=counts)
        hidden = model.hidden(pack(seen, model.config.conv_kernel).to(model.device))
        logits = model.token_head(hidden[torch.from_numpy(at).to(model.device)])
        loss = masked_token_loss(logits, torch.from_numpy(wanted).to(model.device))
        total += float(loss) * len(wanted)
        count += len(wanted)
        targets.append(wanted)
    if not count:
        raise SpatialFormerError("The cells hold no gene of the checkpoint's vocabulary.")
    share = np.bincount(cells.tokens, minlength=model.config.n_tokens) / len(cells.tokens)
    baseline = float(-np.log(share[np.concatenate(targets)]).mean())
    return MaskedScore(total / count, baseline, count)


def compare_layouts(chosen: MaskedScore, other: MaskedScore) -> dict[str, Any]:
    """Say which of two readings of the same weights the cells speak for.

    Returns
    -------
    dict
        ``verdict``: ``right``, ``wrong`` or ``undecided`` (the two differ by less than 0.05 nats,
        or neither beats the frequency of the genes), with both scores.
    """
    best = min(chosen.nats, other.nats)
    verdict = "right" if chosen.nats < other.nats else "wrong"
    if abs(chosen.nats - other.nats) < _MARGIN_NATS or best >= chosen.baseline_nats:
        verdict = "undecided"
    return {"verdict": verdict, "chosen": asdict(chosen), "other": asdict(other)}
