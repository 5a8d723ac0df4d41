"""Colours beyond groupings and genes: decoded as the browser does, against the slide's arrays."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import view_colours
from spatialformer_core.service.cooccurrence import CooccurrenceSettings
from spatialformer_core.service.gene_pairs import stored_cooccurrence

WIDE_NONE = 65_535


def decode(body):
    length = int(np.frombuffer(body, "<u4", 1)[0])
    header = json.loads(body[4 : 4 + length])
    return header, np.frombuffer(body[4 + length :], "<u2" if header["wide"] else "u1")


@pytest.fixture
def slide(services, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(services.home))
    return services.slide("tiny")


@pytest.mark.parametrize("name", ["n_transcripts", "n_genes"])
def test_whole_values_come_back_exactly(slide, name):
    header, codes = decode(view_colours.value_codes(slide, name))
    truth = {"n_transcripts": slide.n_transcripts, "n_genes": slide.n_genes_per_cell}[name]
    assert header["whole"] is True
    assert np.array_equal(header["offset"] + codes * header["scale"], truth)
    assert (header["min"], header["max"]) == (truth.min(), truth.max())


def test_unknown_values_have_no_code(slide):
    # A table folder without outlines knows no areas.
    for name in ("area_um2", "density"):
        header, codes = decode(view_colours.value_codes(slide, name))
        assert header["n_known"] == 0
        assert set(codes) == {WIDE_NONE}


def test_fractions_are_within_half_a_step():
    area = np.array([12.5, 80.25, np.nan, 33.3, 400.0])
    slide = SimpleNamespace(area_um2=area, n_transcripts=np.array([5, 10, 3, 7, 9]))
    header, codes = decode(view_colours.value_codes(slide, "density"))
    truth = slide.n_transcripts / area
    assert codes[2] == WIDE_NONE
    shown = header["offset"] + codes * header["scale"]
    known = np.isfinite(truth)
    assert np.abs(shown - truth)[known].max() <= header["scale"] / 2 + 1e-12
    assert header["n_known"] == 4


def test_no_such_value(slide):
    with pytest.raises(SpatialFormerError, match="no value 'xy_um'"):
        view_colours.value_codes(slide, "xy_um")


def test_two_genes_before_anything_is_measured(slide):
    header, codes = decode(view_colours.pair_codes(slide, "GENE0", "MARK"))
    counts = slide.counts.toarray()
    a, b = (counts[:, slide.genes.index(gene)] > 0 for gene in ("GENE0", "MARK"))
    assert np.array_equal(codes, a + 2 * b)
    assert header["categories"] == ["neither", "GENE0 only", "MARK only", "both"]
    assert header["cells"] == [int((codes == k).sum()) for k in range(4)]
    assert "not measured" in header["note"]


def test_two_genes_together_where_it_is_measured(slide):
    folder = stored_cooccurrence(slide, CooccurrenceSettings(permutations=0))
    found = pd.read_parquet(folder / "cells.parquet")
    pair = set(found["gene_left"].head(1)) | set(found["gene_right"].head(1))
    left, right = sorted(pair)
    for one, other in ((left, right), (right, left)):
        header, codes = decode(view_colours.pair_codes(slide, one, other))
        rows = found[(found["gene_left"].isin(pair)) & (found["gene_right"].isin(pair))]
        assert set(slide.cell_ids[codes == 4]) == set(rows["cell_id"])
        assert (codes == 4).sum() > 0
        assert header["categories"][3:] == ["both, apart", "both, together"]
        assert "within 5 µm" in header["note"]


@pytest.mark.parametrize("genes", [("GENE0", "GENE0"), ("GENE0", "NOPE"), ("NOPE", "GENE0")])
def test_no_pair(slide, genes):
    with pytest.raises(SpatialFormerError):
        view_colours.pair_codes(slide, *genes)


@pytest.fixture
def job(services, slide):
    """A finished embedding of every second cell, in another order than the slide's."""
    rows = np.arange(58, -1, -2)

    def embed(params, out, progress, cancel):
        table = pd.DataFrame(
            {
                "cell_id": slide.cell_ids[rows],
                "passes_qc": True,
                "umap_1": 0.0,
                "group:cell_type": "x",
                "cluster": [f"cluster {row % 3}" for row in rows],
                "confidence": rows / 10,
                "e0000": 1.0,
            }
        )
        table.to_parquet(out / "embedding.parquet")

    job_id = services.queue.submit("embed", {"slide_id": "tiny"}, "ann")
    run_job(services.queue, job_id, lambda kind: embed, silent)
    return job_id


def test_a_job_colours_the_cells_that_it_saw(slide, services, job):
    found = view_colours.result_choices(services.jobs("ann"), slide)
    assert [(choice.job_id, choice.column) for choice in found] == [
        (job, "cluster"),
        (job, "confidence"),
    ]
    header, codes = decode(view_colours.result_codes(slide, job, "cluster", "ann"))
    names = np.array([*header["categories"], ""])
    shown = names[np.where(codes == 255, 3, codes)]
    assert shown[0::2].tolist() == [f"cluster {row % 3}" for row in range(0, 60, 2)]
    assert set(shown[1::2]) == {""}
    assert header["n_unassigned"] == 30

    header, codes = decode(view_colours.result_codes(slide, job, "confidence", "ann"))
    shown = header["offset"] + codes[0::2] * header["scale"]
    assert np.allclose(shown, np.arange(0, 60, 2) / 10, atol=header["scale"])
    assert set(codes[1::2]) == {WIDE_NONE}


def test_only_its_owner_sees_a_result_and_only_its_columns(slide, services, job):
    for owner, column in (("bob", "cluster"), ("ann", "e0000"), ("ann", "cell_id"), ("ann", "x")):
        with pytest.raises(SpatialFormerError):
            view_colours.result_codes(slide, job, column, owner)
    waiting = services.queue.submit("embed", {"slide_id": "tiny"}, "ann")
    other = services.queue.submit("screen", {"slide_id": "tiny"}, "ann")
    for job_id in (waiting, other, "nope"):
        with pytest.raises(SpatialFormerError):
            view_colours.result_codes(slide, job_id, "cluster", "ann")
    assert len(view_colours.result_choices(services.jobs("ann"), slide)) == 2
    assert view_colours.result_choices(services.jobs("bob"), slide) == []
