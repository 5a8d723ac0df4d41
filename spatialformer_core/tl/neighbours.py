"""Predicted neighbours and co-localisation of cell types on an AnnData."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from scipy import sparse

from spatialformer_core import keys
from spatialformer_core.arrays import BoolArray, DoubleArray
from spatialformer_core.config import validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.keys import Obsm, Obsp, Uns
from spatialformer_core.tl.inputs import ModelArguments, Shown, categories, mask_of, show

if TYPE_CHECKING:
    from spatialformer_core.inference import CandidateSource, ColocaliseSettings, Encoded, Subject
    from spatialformer_core.model import Checkpoint

Kind = Literal["auto", "place", "sample", "embedding"]


class NeighbourArguments(ModelArguments, total=False):
    """How neighbours are predicted; all of it optional, see `inference.ColocaliseSettings`."""

    k: int
    threshold: float | None
    n_queries: int | None
    radius_um: float
    reach_um: float
    n_ring: int | None
    n_far: int
    n_sample: int
    seed: int
    block_um: float
    n_resamples: int


_SELECTION = ("k", "threshold")
_TOP = ("n_queries", "block_um", "n_resamples")
_CANDIDATES = ("radius_um", "reach_um", "n_ring", "n_far", "n_sample", "seed")


def predict_neighbors(
    adata: Any,
    checkpoint: Checkpoint | Path | str,
    *,
    candidates: Kind = "auto",
    queries: str | None = None,
    key_added: str = Obsp.NEIGHBORS,
    copy: bool = False,
    **options: Unpack[NeighbourArguments],
) -> Any:
    """Predict which cells are neighbours, from expression alone.

    Parameters
    ----------
    adata
        Cells of one slide, or dissociated cells, with raw counts. Cells that fail quality control
        (``obs["passes_qc"]``) neither ask nor answer.
    checkpoint
        From `model.load_checkpoint`, or its folder.
    candidates
        Who is asked about. ``place``: cells within ``reach_um`` and a weighted sample beyond, for
        cells with coordinates. ``sample``: some of all cells. ``embedding``: the cells of the most
        similar embedding. ``auto``: ``place`` with coordinates, ``embedding`` without.
    queries
        Column of ``obs`` (true or false) with the cells that are asked about; by default all.
    key_added
        Where the predictions go. `pp.cell_pairs` writes the true neighbours under the same name by
        default; ``uns["spatialformer"]["neighbors"]["predicted"]`` tells which they are.
    copy
        Return a changed copy.
    **options
        See `NeighbourArguments`: ``k`` (20), ``threshold``, ``reach_um`` (300), ``n_far`` (300),
        ``n_sample`` (2,000), ``seed``, and those of `tl.inputs.ModelArguments`.

    Returns
    -------
    anndata.AnnData or None
        Key: ``obsp["spatialformer_neighbors"]``, CSR of float32: row = the cell that was asked
        about, value = the score in (0, 1] of its predicted neighbour. Not symmetric.

    Raises
    ------
    SpatialFormerError
        If counts, genes, sample or coordinates do not suffice.
    Cancelled
        If it was cancelled.
    """
    from spatialformer_core.inference import (
        drawn_queries,
        encode_cells,
        make_scorer,
        predicted_neighbours,
    )

    data = adata.copy() if copy else adata
    settings, shown = _settings(options, default_queries=None), _show(data, checkpoint, options)
    kind = _kind(data, candidates)
    eligible = keys.passing_of(data)[shown.order]
    may_ask = eligible & mask_of(data, queries)[shown.order]
    scorer = make_scorer(shown.checkpoint, str(shown.checkpoint.model.device))
    encoded = encode_cells(scorer, shown.data.cells, progress=shown.progress, cancel=shown.cancel)
    found = predicted_neighbours(
        scorer,
        encoded,
        _source(data, shown, kind, (eligible, encoded), settings),
        drawn_queries(may_ask, settings.n_queries, settings.candidates.seed),
        settings.selection,
        progress=shown.progress,
        cancel=shown.cancel,
    )
    row = shown.order[np.repeat(found.query, np.diff(found.indptr))]
    # A score of exactly 0 would look like no prediction.
    value = np.maximum(found.probability, np.finfo(np.float32).tiny)
    shape = (data.n_obs, data.n_obs)
    matrix = sparse.csr_matrix((value, (row, shown.order[found.cell])), shape=shape)
    data.obsp[key_added] = matrix
    facts: dict[str, Any] = {"predicted": True, "candidates": kind, "n_queries": len(found.query)}
    facts |= {"settings": settings.model_dump_json(), "key": key_added}
    keys.remember(data, Uns.NEIGHBORS, {**shown.facts(), **facts})
    return data if copy else None


def colocalise(
    adata: Any,
    checkpoint: Checkpoint | Path | str,
    groupby: str,
    *,
    queries: str | None = None,
    elsewhere: str | None = None,
    copy: bool = False,
    **options: Unpack[NeighbourArguments],
) -> Any:
    """Tabulate which cell types the model puts next to which, beside the truth where it is known.

    Parameters
    ----------
    adata
        Cells of one slide, or dissociated cells, with raw counts. Cells that fail quality control
        (``obs["passes_qc"]``) neither ask nor answer.
    checkpoint
        From `model.load_checkpoint`, or its folder.
    groupby
        Column of ``obs`` with the types.
    queries
        Column of ``obs`` (true or false) with the cells that ask and answer, for example those
        that the checkpoint was not trained on; by default all.
    elsewhere
        Column of ``obs`` (true or false) with cells of the slide whose true neighbours may be
        learnt from: the baseline `type_pair_prior` is fitted on them. They are left out otherwise.
    copy
        Return a changed copy.
    **options
        See `NeighbourArguments`: ``k`` (20), ``threshold``, ``n_queries`` (2,000), ``radius_um``
        (30), ``reach_um`` (300), ..., and those of `tl.inputs.ModelArguments`.

    Returns
    -------
    anndata.AnnData or None
        Key: ``uns["spatialformer"]["colocalisation"]`` with the DataFrames ``pairs``, ``types`` and
        ``differences`` (`inference.type_tables.TypeTables`, with a column ``candidates``) and
        ``info`` (JSON).

    Raises
    ------
    SpatialFormerError
        If counts, genes, types or sample do not suffice.
    Cancelled
        If it was cancelled.
    """
    from spatialformer_core.inference import colocalisation_facts, joined_tables, make_scorer
    from spatialformer_core.inference import colocalise as run

    data = adata.copy() if copy else adata
    settings, shown = _settings(options, default_queries=2_000), _show(data, checkpoint, options)
    masks = (mask_of(data, queries), None if elsewhere is None else mask_of(data, elsewhere))
    subject = _subject(data, shown, groupby, masks, settings)
    scorer = make_scorer(shown.checkpoint, str(shown.checkpoint.model.device))
    result = run(subject, scorer, settings, progress=shown.progress, cancel=shown.cancel)
    facts = colocalisation_facts(result, settings)
    keys.remember(
        data,
        Uns.COLOCALISATION,
        {
            **shown.facts(),
            **joined_tables(result),
            "groupby": groupby,
            "verdict": facts["verdict"],
            "info": json.dumps(facts),
        },
    )
    return data if copy else None


def _show(adata: Any, checkpoint: Checkpoint | Path | str, options: NeighbourArguments) -> Shown:
    own: Any = {k: v for k, v in options.items() if k not in (*_SELECTION, *_TOP, *_CANDIDATES)}
    return show(adata, checkpoint, own)


def _settings(options: NeighbourArguments, *, default_queries: int | None) -> ColocaliseSettings:
    from spatialformer_core.inference import ColocaliseSettings

    def part(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if name in names}

    values = {"n_queries": default_queries, **part(_TOP)}
    values |= {"selection": part(_SELECTION), "candidates": part(_CANDIDATES)}
    return validate(ColocaliseSettings, values, "neighbours")


def _kind(adata: Any, candidates: Kind) -> Kind:
    placed = Obsm.SPATIAL in adata.obsm
    if candidates not in ("auto", "place", "sample", "embedding"):
        raise SpatialFormerError(
            f"candidates is {candidates!r}.", fix="Choose auto, place, sample or embedding."
        )
    if candidates == "auto":
        return "place" if placed else "embedding"
    return candidates


def _source(
    adata: Any,
    shown: Shown,
    kind: Kind,
    cells: tuple[BoolArray, Encoded],
    settings: ColocaliseSettings,
) -> CandidateSource:
    from spatialformer_core.inference import (
        EncodedTower,
        RetrievedCandidates,
        SampledCandidates,
        SpatialCandidates,
        cls_states,
    )

    eligible, encoded = cells
    if kind == "place":
        return SpatialCandidates(_xy(adata, shown), eligible, settings.candidates)
    if kind == "sample":
        return SampledCandidates(eligible, settings.candidates)
    if isinstance(encoded, EncodedTower):
        embedding = encoded.embedding
    else:
        embedding = cls_states(shown.checkpoint.model, shown.data.cells, cancel=shown.cancel)
    return RetrievedCandidates(embedding, eligible, settings.candidates)


def _xy(adata: Any, shown: Shown) -> DoubleArray:
    xy_um: DoubleArray = keys.coordinates_of(adata)[shown.order]
    return xy_um


def _subject(
    adata: Any,
    shown: Shown,
    groupby: str,
    masks: tuple[BoolArray, BoolArray | None],
    settings: ColocaliseSettings,
) -> Subject:
    from spatialformer_core.inference import Subject, type_pair_prior, typed

    names, codes = categories(adata, groupby)
    names, codes = typed(names, codes[shown.order])
    passes = keys.passing_of(adata)[shown.order]
    asked, elsewhere = (None if mask is None else mask[shown.order] for mask in masks)
    eligible = passes if asked is None else passes & asked
    xy_um = _xy(adata, shown) if Obsm.SPATIAL in adata.obsm else None
    prior = None
    if elsewhere is not None:
        if xy_um is None:
            raise SpatialFormerError("Without coordinates there are no neighbours to learn from.")
        eligible = eligible & ~elsewhere
        radius_um = settings.candidates.radius_um
        prior = type_pair_prior(xy_um, codes, len(names), passes & elsewhere, radius_um)
    return Subject(
        tokens=shown.data.cells,
        types=codes,
        type_names=names,
        eligible=eligible,
        may_ask=eligible,
        xy_um=xy_um,
        counts=shown.counts,
        prior=prior,
    )
