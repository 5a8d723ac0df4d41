"""What the faces of the model share: the checkpoint, the cells as it reads them, columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from spatialformer_core import keys
from spatialformer_core.arrays import BoolArray, LongArray
from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.keys import Var
from spatialformer_core.progress import Cancel, Progress, never, silent
from spatialformer_core.vocabulary import GeneNames, read_gene_names

if TYPE_CHECKING:
    from spatialformer_core.inference import ModelInput
    from spatialformer_core.model import Checkpoint


class ModelArguments(TypedDict, total=False):
    """How an AnnData is shown to a model; all of it optional.

    Attributes
    ----------
    sample
        Condition, tissue, species and assay of the cells; needed unless ``meta`` is ``masked``.
    meta
        ``given``, or ``masked``: the four hidden, since they otherwise leak into the embedding.
    layer
        Layer of the raw counts; by default ``X``.
    names
        Tables of other gene names (`vocabulary.read_gene_names`); by default the shipped Ensembl
        ids.
    device
        A torch device; by default the CPU.
    progress, cancel
        Called with how far it is; asked whether to stop.
    """

    sample: SampleMetadata | None
    meta: Literal["given", "masked"]
    layer: str | None
    names: GeneNames | None
    device: str
    progress: Progress
    cancel: Cancel


@dataclass(frozen=True, slots=True)
class Shown:
    """An AnnData as a checkpoint sees it, its cells in the order of their names.

    Attributes
    ----------
    order
        Row of the AnnData of each cell, shape ``(n,)``: nothing depends on the order of the rows.
    counts
        Raw counts in that order, scipy CSR.
    """

    checkpoint: Checkpoint
    data: ModelInput
    order: LongArray
    counts: Any
    meta: Literal["given", "masked"]
    progress: Progress
    cancel: Callable[[], bool]

    def back(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return rows in the order of the AnnData."""
        out = np.empty_like(values)
        out[self.order] = values
        return out

    def facts(self) -> dict[str, Any]:
        """Return the entries of ``uns`` that every result of a model carries."""
        return {
            "checkpoint": self.checkpoint.name,
            "checkpoint_id": self.checkpoint.id,
            "simulated": self.checkpoint.simulated,
            "vocabulary": self.checkpoint.vocabulary.fingerprint,
            "meta": self.meta,
            "input": json.dumps(self.data.facts),
        }


def show(adata: Any, checkpoint: Checkpoint | Path | str, options: ModelArguments) -> Shown:
    """Return an AnnData as a checkpoint sees it.

    Raises
    ------
    SpatialFormerError
        If the checkpoint cannot be read, the values are no counts, the genes are unknown to the
        checkpoint, or the sample is neither named nor masked.
    """
    from spatialformer_core.inference import Panel, model_input
    from spatialformer_core.model import load_checkpoint

    loaded = load_checkpoint(Path(checkpoint)) if isinstance(checkpoint, Path | str) else checkpoint
    unknown = sorted(set(options) - set(ModelArguments.__annotations__))
    meta = options.get("meta", "given")
    if unknown or meta not in ("given", "masked"):
        raise SpatialFormerError(
            f"Unknown option {', '.join(unknown)}." if unknown else f"meta is {meta!r}.",
            fix=f"Options: {', '.join(ModelArguments.__annotations__)}; meta: given or masked.",
        )
    counts = keys.counts_of(adata, options.get("layer"))
    order = np.argsort(np.asarray(adata.obs_names, dtype=np.str_), kind="stable")
    ids = adata.var[Var.GENE_IDS].astype(str).tolist() if Var.GENE_IDS in adata.var else None
    names = options.get("names")
    panel = Panel(
        [str(name) for name in adata.var_names],
        ids,
        read_gene_names() if names is None else names,
        options.get("sample"),
    )
    counts = counts[order]
    name = f"Checkpoint {loaded.name!r}"
    data = model_input(counts, panel, loaded.vocabulary, name=name, meta=meta)
    loaded.model.to(options.get("device", "cpu"))
    watch = (options.get("progress", silent), options.get("cancel", never))
    return Shown(loaded, data, order, counts, meta, *watch)


def mask_of(adata: Any, key: str | None) -> BoolArray:
    """Return a column of ``obs`` as a mask, all cells without one.

    Raises
    ------
    SpatialFormerError
        If there is no such column, or it is not true or false.
    """
    if key is None:
        return np.ones(adata.n_obs, np.bool_)
    if key not in adata.obs or adata.obs[key].dtype != np.bool_:
        raise SpatialFormerError(
            f"There is no column {key[:60]!r} of true and false.", where="adata.obs"
        )
    return np.asarray(adata.obs[key], np.bool_)


def categories(adata: Any, key: str) -> tuple[tuple[str, ...], LongArray]:
    """Return names and codes of a column of ``obs``, -1 where it is missing.

    Raises
    ------
    SpatialFormerError
        If there is no such column.
    """
    if key not in adata.obs:
        raise SpatialFormerError(
            f"There is no column {key[:60]!r}.",
            where="adata.obs",
            fix=f"Columns: {', '.join(str(name) for name in adata.obs.columns[:40]) or 'none'}.",
        )
    column = adata.obs[key].astype("category").cat
    return tuple(str(name) for name in column.categories), column.codes.to_numpy().astype(np.int64)
