"""What a screen of stored slides works with, in this process and in those of its shards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialformer_core import files
from spatialformer_core.config import validate
from spatialformer_core.jobs import Engine
from spatialformer_core.perturbation import Farm, ModelFacts, ScreenRequest, Tissue
from spatialformer_core.perturbation.effects import make_work, on_targets
from spatialformer_core.perturbation.plan import make_plan
from spatialformer_core.perturbation.shards import Work
from spatialformer_core.progress import Cancel, check
from spatialformer_core.service.screen_counts import screen_counts
from spatialformer_core.service.vocabularies import spelled_as
from spatialformer_core.slides import SlideStore

if TYPE_CHECKING:
    from spatialformer_core.inference import PairScorer
    from spatialformer_core.model import Checkpoint
    from spatialformer_core.slides import Slide

_LOADER = f"{__name__}:load_work"

_PARAMETERS_PER_CALL = 4e8
"""Pairs in a call times parameters: about two seconds on a CPU core, so that cancel is heard."""
_GPU_SPEED = 50


@dataclass(frozen=True, slots=True)
class Execution:
    """How a screen is carried out; it changes nothing that is computed.

    Attributes
    ----------
    folder
        Keeps finished shards, so that a screen that was stopped goes on; None keeps nothing.
    engine
        In which processes shards are made.
    n_shards
        About how many; None: by their cost.
    figures
        Whether figures are drawn into the result's folder.
    """

    folder: Path | None = None
    engine: Engine = field(default_factory=Engine)
    n_shards: int | None = None
    figures: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """Slides and checkpoint as a screen sees them."""

    loaded: Checkpoint
    slides: list[Slide]
    tissues: list[Tissue]
    facts: ModelFacts
    scorer: PairScorer


def prepare(
    store: SlideStore, request: ScreenRequest, checkpoint: Path, cancel: Cancel, number: int = 0
) -> Prepared:
    """Read slides, tokens and checkpoint.

    Parameters
    ----------
    number
        Of the shard; on several GPUs the shards take turns.
    """
    from spatialformer_core.inference import make_scorer
    from spatialformer_core.model import load_checkpoint
    from spatialformer_core.service.screen import make_facts, make_tissue
    from spatialformer_core.vocabulary import tokenise

    loaded = load_checkpoint(checkpoint)
    slides = [store.open(slide_id) for slide_id in request.slide_ids]
    tissues = []
    for slide in slides:
        check(cancel)
        tissue = make_tissue(slide, loaded.vocabulary, request, loaded.provenance)
        mapping = spelled_as(slide, loaded.vocabulary)
        ids = loaded.vocabulary.gene_ids(mapping.names)
        meta = loaded.vocabulary.meta_ids(slide.meta.sample)
        counts = mapping.counts(screen_counts(slide, request))
        cells, _ = tokenise(counts, ids, loaded.vocabulary, meta)
        tissues.append(replace(tissue, cells=cells))
    device = _device(number)
    facts = make_facts(slides, loaded.vocabulary, checkpoint, loaded.provenance)
    facts = replace(facts, name=loaded.name, id=loaded.id, **_pace(loaded, device))
    return Prepared(loaded, slides, tissues, facts, make_scorer(loaded, device))


def _device(number: int) -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    # Effects are small differences of logits: ten bits of mantissa are not enough.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    return f"cuda:{number % torch.cuda.device_count()}"


def _pace(loaded: Checkpoint, device: str) -> dict[str, Any]:
    from spatialformer_core.model import n_parameters

    per_call = _PARAMETERS_PER_CALL / n_parameters(loaded.model)
    on_gpu = device != "cpu"
    pairs = int(max(4, min(512, per_call))) * (_GPU_SPEED if on_gpu else 1)
    if loaded.config.architecture == "two-tower":
        # One order of one cell is a quarter of a pair's work; the head alone is cheap.
        return {"on_gpu": on_gpu, "cells_per_call": min(2_048, 4 * pairs)}
    return {"on_gpu": on_gpu, "pairs_per_call": pairs}


def make_farm(
    store: SlideStore,
    request: ScreenRequest,
    checkpoint: Path,
    prepared: Prepared,
    execution: Execution,
) -> Farm | None:
    """Return where the shards of a screen are kept and made; None if nothing is to be kept."""
    if execution.folder is None:
        return None
    told = request.model_dump(mode="json")
    sources = [files.sha256_file(slide.folder / files.MANIFEST) for slide in prepared.slides]
    return Farm(
        folder=execution.folder.resolve(),
        loader=_LOADER,
        params={
            "home": str(store.root.parent.resolve()),
            "checkpoint": str(checkpoint.resolve()),
            "request": told,
        },
        key={
            "request": told,
            "checkpoint": prepared.facts.id,
            "slides": sources,
            "gpu": prepared.facts.on_gpu,
        },
        engine=execution.engine,
        n_shards=execution.n_shards,
    )


def load_work(params: dict[str, Any], number: int, cancel: Cancel) -> Work:
    """Return the work of a screen in the process of one of its shards."""
    request = validate(ScreenRequest, params["request"], "screen")
    store = SlideStore(Path(params["home"]))
    ready = prepare(store, request, Path(params["checkpoint"]), cancel, number)
    targets, tissues = on_targets(ready.tissues, ready.facts, request)
    plan = make_plan(tissues, request)
    return make_work(plan, ready.scorer, ready.facts, request, targets, cancel=cancel)
