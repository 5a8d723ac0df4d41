"""A slide of cells and counts alone opens on every page and says what it lacks."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.service import open_services

PARTS = ("Quality control", "Cell types", "Files", "Sample and removal")


@pytest.fixture(scope="module")
def home(tmp_path_factory, app_slide):
    """A slide without transcripts, outlines, image and cell types."""
    from spatialformer_core.slides import ingest

    folder = tmp_path_factory.mktemp("bare")
    xy, _, counts = app_slide.tissue()
    names = pd.DataFrame(index=[f"cell-{i}" for i in range(len(xy))])
    table = anndata.AnnData(counts, obs=names, var=pd.DataFrame(index=app_slide.GENES))
    table.obsm["spatial"] = xy.astype(np.float64)
    table.write_h5ad(folder / "bare.h5ad")
    sample = SampleMetadata(**app_slide.SAMPLE)
    store = open_services(folder).store
    source = folder / "bare.h5ad"
    ingest(source, store, name="Bare", sample=sample, qc=QcThresholds(), um_per_px=1.0)
    return folder


def test_it_lacks_everything_that_may_be_absent(services):
    meta = services.slide("bare").meta
    assert not any((meta.has_transcripts, meta.has_polygons, meta.images, meta.group_keys))
    said = " ".join(meta.missing)
    assert "transcripts" in said
    assert "image" in said


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_page_slides_opens(services, open_page, words, part):
    at = open_page("slides", slide="bare")
    at.segmented_control(key="slides-part").set_value(part).run()
    assert not at.exception, [e.message for e in at.exception]
    assert not at.error, at.error[0].value
    if part == "Quality control":
        assert "No cell types on this slide" in words(at)
        for sentence in services.slide("bare").meta.missing:
            assert sentence in words(at)
    if part == "Cell types":
        assert "No groups to name" in words(at)


@pytest.mark.parametrize(
    "page", ["tissue", "gene_pairs", "neighbours", "embedding", "perturbation"]
)
def test_every_other_page_opens_or_says_what_to_do(services, open_page, page):
    at = open_page(page, slide="bare")
    for error in at.error:
        assert "What to do:" in error.value
