"""Official checkpoints into our own form: read, decide how to read them, check, save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spatialformer_core import __version__, files
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.progress import Progress, silent
from spatialformer_core.service.vocabularies import spelled_as
from spatialformer_core.vocabulary import Vocabulary, load_published

if TYPE_CHECKING:
    from torch import Tensor

    from spatialformer_core.arrays import CellTokens, LongArray
    from spatialformer_core.model import Layout, Published, SpatialFormer
    from spatialformer_core.slides import Slide

OLD_TOKENS = 1950
"""Tokens of the 61- and 62-slide models: the first of the 6,065 published ones."""

TIE_RULE = (
    "counts / median, descending; ties by gene name. The published code leaves ties to numpy's "
    "unstable sort, whose order within a tie is arbitrary and cannot be repeated."
)
_INPUTS = ("paired", "single")


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What the file may not tell of itself.

    Attributes
    ----------
    layout
        How its attention is to be read; None: from its own settings, else from its size.
    input_type
        ``paired`` or ``single``; None: from its own settings.
    lora_alpha
        Of LoRA weights; None: twice their rank, as the published fine-tuning did.
    base
        The model that a file of LoRA factors alone belongs to.
    name
        Of the checkpoint; None: the output folder's.
    source
        Facts for the provenance, such as the address it was fetched from.
    """

    layout: Layout | None = None
    input_type: Literal["paired", "single"] | None = None
    lora_alpha: float | None = None
    base: Path | None = None
    name: str | None = None
    source: Mapping[str, Any] | None = None


def convert_spatialformer(
    path: Path,
    out: Path,
    options: ConvertOptions | None = None,
    *,
    check_slide: Slide | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Convert a published SpatialFormer checkpoint into a checkpoint folder.

    Parameters
    ----------
    path
        A ``.ckpt`` or ``.pt`` of the published package, or LoRA weights in peft's layout.
    out
        The folder to write.
    options
        What the file may not tell of itself.
    check_slide
        A slide on which the masked-token score is compared under both attention layouts.

    Returns
    -------
    dict
        The provenance, with ``layout``, ``layout_from`` and ``self_check``.

    Raises
    ------
    SpatialFormerError
        If the file is damaged, of another model or vocabulary, or the slide speaks against a
        layout that was not asked for.
    """
    from spatialformer_core.model import SpatialFormer, convert_published, published_config
    from spatialformer_core.model import save_checkpoint as save

    options = options or ConvertOptions()
    name = files.check_name(options.name or out.name, "The checkpoint name")
    progress(0.0, 1.0, "Reading the weights")
    state, told = _read(path, options)
    about, why = _decide(state, told, options)
    vocabulary, rows = published_vocabulary(len(state["embeddings.weight"]))
    config = published_config(state, about, len(vocabulary))
    progress(0.3, 1.0, "Converting")
    model = SpatialFormer(config)
    model.load_state_dict(convert_published(state, config, rows), strict=True)
    model.eval()
    told |= {
        "name": name,
        "layout": about.layout,
        "layout_from": why,
        "tie_rule": TIE_RULE,
        "self_check": None,
    }
    if check_slide is not None:
        progress(0.5, 1.0, "Hiding tokens of the slide under both layouts")
        told["self_check"] = self_check(model, vocabulary, check_slide)
        _heed(told["self_check"], about.layout, options)
    progress(0.8, 1.0, "Writing")
    provenance = _provenance(path, model, told, options.source)
    save(out, model, vocabulary, provenance, _card(name, model, provenance))
    progress(1.0, 1.0, "Converted")
    return provenance


def published_vocabulary(n_tokens: int) -> tuple[Vocabulary, LongArray]:
    """Return the vocabulary of a published model and, of each of its tokens, the published row.

    Raises
    ------
    SpatialFormerError
        If no published vocabulary has so many tokens.
    """
    whole = load_published()
    rows = whole.published_ids.astype(np.int64)
    if n_tokens == len(whole.own_ids):
        return whole.vocabulary, rows
    if n_tokens != OLD_TOKENS:
        raise SpatialFormerError(
            f"The checkpoint has {n_tokens:,} tokens; the published vocabularies have "
            f"{len(whole.own_ids):,} and {OLD_TOKENS:,}.",
            fix="Only checkpoints with one of these vocabularies can be converted.",
        )
    offset = whole.vocabulary.gene_offset
    kept = rows[offset:] < OLD_TOKENS
    genes = tuple(g for g, old in zip(whole.vocabulary.genes, kept, strict=True) if old)
    old = Vocabulary(whole.vocabulary.words, genes, whole.vocabulary.gene_medians[kept])
    return old, np.concatenate([rows[:offset], rows[offset:][kept]])


def self_check(model: SpatialFormer, vocabulary: Vocabulary, slide: Slide) -> dict[str, Any]:
    """Compare the masked-token score of a converted model under both attention layouts."""
    from spatialformer_core.model import in_other_layout
    from spatialformer_core.objectives import compare_layouts, masked_token_score

    cells = _tokens(vocabulary, slide)
    chosen = masked_token_score(model, cells, vocabulary.gene_offset)
    other = masked_token_score(in_other_layout(model), cells, vocabulary.gene_offset)
    return {"slide": slide.meta.slide_id, **compare_layouts(chosen, other)}


def _tokens(vocabulary: Vocabulary, slide: Slide) -> CellTokens:
    from spatialformer_core.inference import require_coverage
    from spatialformer_core.vocabulary import tokenise

    mapping = spelled_as(slide, vocabulary)
    require_coverage("The checkpoint", vocabulary, mapping.names)
    kept = np.flatnonzero(np.asarray(slide.passes_qc))
    meta = vocabulary.meta_ids(slide.meta.sample)
    ids = vocabulary.gene_ids(mapping.names)
    return tokenise(mapping.counts(slide.counts[kept]), ids, vocabulary, meta)[0]


def _read(path: Path, options: ConvertOptions) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from spatialformer_core.model import has_lora, merge_lora, read_torch_file

    found = read_torch_file(path)
    state, told = found.state, dict(found.facts)
    if options.base is not None or has_lora(state):
        base = read_torch_file(options.base) if options.base is not None else None
        told = (base.facts if base is not None else {}) | told
        state, merged = merge_lora(state, base.state if base else None, options.lora_alpha)
        if not merged["layers"]:
            raise SpatialFormerError("The file holds no LoRA weights to merge.", where=path.name)
        told["lora"] = merged
    if "embeddings.weight" not in state or not state["embeddings.weight"].ndim:
        raise SpatialFormerError(
            "The file is no published SpatialFormer checkpoint: it has no 'embeddings.weight'.",
            where=path.name,
            fix="Other model families have converters of their own (--family).",
        )
    return state, told


def _decide(
    state: Mapping[str, Tensor], told: Mapping[str, Any], options: ConvertOptions
) -> tuple[Published, str]:
    from spatialformer_core.model import Published

    old = "adjprojector.fc.weight" in state or len(state["embeddings.weight"]) == OLD_TOKENS
    if told.get("resumed") and not old:
        raise SpatialFormerError(
            "The file is a 61-slide checkpoint that the published package has extended: its "
            "co-occurrence head and the vectors of its new genes are random numbers.",
            fix="Convert the original file.",
        )
    hyper = told.get("hyper_parameters") or {}
    input_type = options.input_type or {"pair": "paired"}.get(
        str(hyper.get("input_type")), str(hyper.get("input_type"))
    )
    if input_type not in _INPUTS:
        raise SpatialFormerError(
            "The file does not tell whether it was trained on pairs or on single cells.",
            fix="Say so: --input paired or --input single.",
        )
    heads = hyper.get("nheads")
    about = Published(
        layout="head-major" if old else "split",
        n_heads=heads if isinstance(heads, int) and not isinstance(heads, bool) else None,
        cooccurrence_trained=not old,
        pair_trained=input_type == "paired",
    )
    flash = hyper.get("use_flash_attn")
    if options.layout is not None:
        return replace(about, layout=options.layout), "given by the user"
    if isinstance(flash, bool):
        return replace(about, layout="split" if flash else "head-major"), "the file's own settings"
    return about, f"its {'61' if old else '71'}-slide vocabulary and head"


def _heed(check: Mapping[str, Any], layout: str, options: ConvertOptions) -> None:
    if check["verdict"] == "wrong" and options.layout is None:
        raise SpatialFormerError(
            f"On slide {check['slide']!r} the weights find hidden tokens better in the other "
            f"attention layout than in {layout!r} ({check['other']['nats']:.3f} against "
            f"{check['chosen']['nats']:.3f} nats).",
            fix="Convert again with --layout "
            + ("split." if layout == "head-major" else "head-major."),
        )


def _provenance(
    path: Path, model: SpatialFormer, told: Mapping[str, Any], source: Mapping[str, Any] | None
) -> dict[str, Any]:
    from spatialformer_core.model import DROPPED, n_parameters

    config = model.config
    slides = (source or {}).get("slides", f"{config.preset.removeprefix('published-')} slides")
    return {
        **told,
        **(source or {}),
        "simulated": False,
        "family": "spatialformer",
        # Which slides they were is known to the authors alone, so no slide is surely unseen.
        "trained_on": None,
        "trained_on_words": f"{slides} (published)",
        "source_file": {"name": path.name, "bytes": path.stat().st_size},
        "source_sha256": files.sha256_file(path),
        "dropped": list(DROPPED),
        "parameters": n_parameters(model),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }


def _card(name: str, model: SpatialFormer, told: Mapping[str, Any]) -> str:
    config = model.config
    check = told["self_check"]
    checked = (
        "not done; run the conversion with `--check-slide SLIDE`"
        if check is None
        else f"{check['verdict']} on `{check['slide']}`: {check['chosen']['nats']:.3f} nats, "
        f"{check['other']['nats']:.3f} in the other layout, "
        f"{check['chosen']['baseline_nats']:.3f} by gene frequency"
    )
    cooccurrence = (
        "trained"
        if config.cooccurrence_trained
        else "**untrained: to be treated as noise** (a sum of two gene scores can represent no "
        "interaction, and its labels look inherited from code that scrambled gene names)"
    )
    pair = "trained" if config.pair_trained else "**untrained** (single-cell model)"
    return f"""# {name}

A published SpatialFormer checkpoint (Wang, Huang, Winther, bioRxiv 2025.01.18.633701; code MIT),
converted. The weights are the authors'; nothing was trained here.

| | |
|---|---|
| size | {config.preset}: {config.n_blocks} blocks, {config.dim} wide, {config.n_heads} heads |
| parameters | {told["parameters"]:,} |
| vocabulary | {config.n_tokens - 1:,} published tokens and our unknown word (a zero vector) |
| attention layout | {config.source_attention} ({told["layout_from"]}) |
| self-check of the layout | {checked} |
| co-occurrence head | {config.cooccurrence_head}, {cooccurrence} |
| pair head | {pair} |
| order of tied genes | {told["tie_rule"]} |

**Parity.** Our network gives the published outputs in both layouts to 1e-5 for random weights. No
real published file could be fetched when this was written, so for real weights parity is unproven.

Medians are those that the published package ships. The training slides are public Xenium slides
that nobody lists per checkpoint: a public slide may have been seen in training, and scores on it
flatter. The published code refuses sample words that it does not know; here they become the
unknown word.
"""
