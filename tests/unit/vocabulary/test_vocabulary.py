"""Vocabulary: layout, medians, untrusted files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import (
    CLS,
    MASK,
    PAD,
    SEP,
    UNKNOWN,
    Vocabulary,
    build_vocabulary,
    coverage,
)


def sample(**changes: str) -> SampleMetadata:
    values = {
        "donor": "d1",
        "block": "b1",
        "condition": "Healthy",
        "tissue": "Lung",
        "species": "Human",
        "assay": "Xenium",
    }
    return SampleMetadata(**{**values, **changes})


def built() -> Vocabulary:
    first = sp.csr_matrix(np.array([[1, 3, 0], [0, 2, 2]]))
    second = sp.csr_matrix(np.array([[4, 0]]))
    return build_vocabulary(
        [(("B", "A", "C"), first), (("A", "D"), second)], [sample(), sample(tissue="Skin")]
    )


def test_layout_is_specials_words_genes() -> None:
    v = built()
    assert (PAD, CLS, MASK, SEP, UNKNOWN) == (0, 1, 2, 3, 4)
    assert v.tokens[:5] == ("<PAD>", "<CLS>", "<MASK>", "<SEP>", "<UNKNOWN>")
    assert v.tokens[5 : v.gene_offset] == (
        "assay:xenium",
        "condition:healthy",
        "species:human",
        "tissue:lung",
        "tissue:skin",
    )
    assert v.tokens[v.gene_offset :] == ("A", "B", "C", "D")
    assert v.gene_ids(["D", "nope", "A"]).tolist() == [v.gene_offset + 3, -1, v.gene_offset]
    # A gene may not be looked up by the name of a special token.
    assert v.gene_ids(["<PAD>", "tissue:lung"]).tolist() == [-1, -1]


def test_medians_are_of_scaled_nonzero_counts_over_all_slides() -> None:
    v = built()
    # cell 1: total 4 -> B 2500, A 7500; cell 2: total 4 -> A 5000, C 5000; slide 2: A 10000
    assert v.medians[: v.gene_offset].tolist() == [1.0] * v.gene_offset
    assert v.medians[v.gene_offset :].tolist() == [7500.0, 2500.0, 5000.0, 1.0]


def test_medians_match_numpy_and_ignore_the_order_of_slides() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (60, 8))
    names = [f"g{i}" for i in range(8)]
    v = build_vocabulary([(names, sp.csr_matrix(counts))], [sample()])
    scaled = (counts * (10_000 / counts.sum(1, keepdims=True))).astype(np.float32)
    expected = [np.median(scaled[:, g][scaled[:, g] > 0].astype(float)) for g in range(8)]
    np.testing.assert_allclose(v.medians[v.gene_offset :], expected, rtol=1e-6)
    parts = [(names, sp.csr_matrix(counts[40:])), (names[::-1], sp.csr_matrix(counts[:40, ::-1]))]
    assert build_vocabulary(parts, [sample()]).fingerprint == v.fingerprint


def test_words_ignore_case_and_unknown_ones_are_named() -> None:
    v = built()
    expected = [v.tokens.index(f"{f}") for f in ("condition:healthy", "tissue:lung")]
    assert v.meta_ids(sample(condition="HEALTHY ", tissue="lung"))[:2].tolist() == expected
    assert v.meta_ids(sample(assay="CosMx"))[3] == UNKNOWN
    assert v.unknown_words(sample(assay="CosMx")) == ("assay:cosmx",)


def test_coverage_counts_unknown_genes() -> None:
    found = coverage(["A", "x", "D", "y"], built())
    assert (found.known, found.unknown, found.fraction) == (("A", "D"), ("x", "y"), 0.5)
    assert coverage([], built()).fraction == 0.0


def test_saving_is_identity_and_the_fingerprint_sees_every_change(tmp_path: Path) -> None:
    v = built()
    v.save(tmp_path / "vocabulary.json")
    again = Vocabulary.load(tmp_path / "vocabulary.json")
    assert again == v
    assert again.tokens == v.tokens
    assert again.medians.tobytes() == v.medians.tobytes()
    medians = v.gene_medians.copy()
    medians[0] = np.nextafter(medians[0], np.float32(np.inf))
    assert Vocabulary(v.words, v.genes, medians).fingerprint != v.fingerprint
    renamed = Vocabulary(v.words, (*v.genes[:-1], "E"), v.gene_medians)
    assert renamed.fingerprint != v.fingerprint


@pytest.mark.security
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genes": ["A", "B", "C", 7]}, "genes"),
        ({"genes": ["A", "B", "C", "C"]}, "more than once"),
        ({"genes": ["A", "B", "C", "<PAD>"]}, "alphabetical"),
        ({"genes": ["A", "B", "C", "x" * 500]}, "at most 128"),
        ({"genes": ["A", "B", "C"]}, "3 genes and 4 medians"),
        ({"genes": ["A", "B", "C", "E"]}, "fingerprint"),
        ({"medians": [1.0, 2.0, 3.0, 0.0]}, "positive"),
        ({"medians": [1.0, 2.0, 3.0, 1e300]}, "positive"),
        ({"medians": [1.0, 2.0, 3.0, float("nan")]}, "positive"),
        ({"words": ["mood:good"]}, "field:value"),
        ({"words": ["tissue:Lung"]}, "field:value"),
        ({"format_version": 2}, "format_version"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_untrusted_files_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({**built().to_json(), **change}))
    with pytest.raises(SpatialFormerError, match=message) as error:
        Vocabulary.load(path)
    assert error.value.where == str(path)


@pytest.mark.parametrize("content", ["[]", "null", "{", '"x"'])
def test_files_that_are_no_vocabulary(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(SpatialFormerError):
        Vocabulary.load(path)


def test_bad_panels_are_refused() -> None:
    with pytest.raises(SpatialFormerError, match="more than once"):
        build_vocabulary([(("A", "A"), sp.csr_matrix((1, 2)))], [sample()])
    with pytest.raises(SpatialFormerError, match="2 genes, the counts have 3"):
        build_vocabulary([(("A", "B"), sp.csr_matrix((1, 3)))], [sample()])
