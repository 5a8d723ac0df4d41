"""A corpus as `datasets` rows and back; foreign and hostile rows."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

from spatialformer_core import files
from spatialformer_core.corpus import (
    COLUMNS,
    Corpus,
    CorpusSettings,
    ImportSettings,
    export_dataset,
    import_dataset,
    read_rows,
    told_by,
)
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import load_published

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def exported(large, tmp_path_factory):
    return export_dataset(large, tmp_path_factory.mktemp("exports") / "rows")


def test_a_round_trip_is_equal_byte_for_byte(large, exported, tmp_path):
    told = told_by(exported)
    back = import_dataset(read_rows(exported), large.vocabulary, tmp_path / "back", told)
    hashes = [files.read_json(path / files.MANIFEST)["files"] for path in (large.path, back)]
    assert hashes[0] == hashes[1]
    assert Corpus.load(back).manifest == large.manifest


def test_columns_say_what_they_promise(large, exported):
    rows = datasets.load_from_disk(str(exported / "rows"))
    assert rows.column_names == list(COLUMNS)
    assert len(rows) == large.n_cells
    for at in (0, 7, large.n_cells - 1):
        row, cell = rows[at], large.cells(np.array([at]))
        assert row["Full_Tokens"] == [*cell.meta[0], *cell.tokens]
        assert row["Shape"] == [len(cell.tokens)] * 2
        assert row["Counts"] == cell.counts.tolist()
    linked = large.cooccurrence(np.array([0]))
    both = {
        *zip(linked.left, linked.right, strict=True),
        *zip(linked.right, linked.left, strict=True),
    }
    assert set(zip(rows[0]["Rows"], rows[0]["Cols"], strict=True)) == both
    # Slide three has no transcripts: its co-occurrence is not known, which is not "none".
    assert rows[large.n_cells - 1]["Rows"] is None
    assert rows[2400]["Sample_Names"] == "two"
    assert rows[2400]["Simulated"] is True


def foreign_rows(**changes):
    """Return rows as the published dataset has them, in published token ids."""
    tokens = load_published()
    ids = dict(zip(tokens.vocabulary.tokens, tokens.published_ids.tolist(), strict=True))
    meta = [ids[t] for t in ("condition:healthy", "tissue:lung", "species:human", "assay:xenium")]
    genes = [ids[g] for g in ("CD3E", "A2M", "EPCAM")]
    columns = {
        "Full_Tokens": [meta + genes, meta + genes[:2]],
        "Rows": [[0, 2], [1]],
        "Cols": [[2, 0], [0]],
        "Cell_Ids": ["aaaa-1", "aaab-1"],
        "Sample_Names": ["VUHD116A", "VUHD116A"],
        "centroid_x": [1.0, 11.0],
        "centroid_y": [2.0, 2.0],
        "Tissues": ["Lung", "Lung"],
        "Species": ["Human", "Human"],
        "Assay": ["Xenium", "Xenium"],
        "Conditions": ["Healthy", "Healthy"],
        "Niche_Annotation": ["x", "y"],
    }
    return datasets.Dataset.from_dict({**columns, **changes})


FOREIGN = ImportSettings(CorpusSettings(), donor_column="Sample_Names", block_column="Sample_Names")


def published_settings() -> ImportSettings:
    return replace(FOREIGN, token_ids=load_published().own_ids)


def test_rows_of_the_published_dataset_become_a_corpus(tmp_path):
    vocabulary = load_published().vocabulary
    out = import_dataset(foreign_rows(), vocabulary, tmp_path / "c", published_settings())
    corpus = Corpus.load(out)
    cells = corpus.cells(np.array([0, 1]))
    names = [[vocabulary.tokens[t] for t in cells.row(i)] for i in (0, 1)]
    assert names == [["CD3E", "A2M", "EPCAM"], ["CD3E", "A2M"]]
    linked = corpus.cooccurrence(np.array([0, 1]))
    assert (linked.indptr.tolist(), linked.left.tolist(), linked.right.tolist()) == (
        [0, 1, 2],
        [0, 0],
        [2, 1],
    )
    shard = corpus.shards[0]
    assert shard.cell_ids.tolist() == [b"aaaa-1", b"aaab-1"]
    assert shard.info.sample.donor == "VUHD116A"
    assert shard.info.n_edges == 1
    assert corpus.split.tolist() == [0, 0]
    assert cells.counts.tolist() == [0] * 5
    # And out and back again.
    again = export_dataset(corpus, tmp_path / "rows")
    back = import_dataset(read_rows(again), vocabulary, tmp_path / "d", told_by(again))
    assert (back / files.MANIFEST).read_bytes() == (out / files.MANIFEST).read_bytes()


def test_rows_that_were_selected_are_imported_as_selected(tmp_path):
    rows = foreign_rows().select([1])
    out = import_dataset(rows, load_published().vocabulary, tmp_path / "c", published_settings())
    assert Corpus.load(out).shards[0].cell_ids.tolist() == [b"aaab-1"]


@pytest.mark.security
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Full_Tokens": [[25, 8, 3, 6, 9999], [25, 8, 3, 6]]}, "outside the vocabulary"),
        ({"Full_Tokens": [[25, 8, 3, 6, -5], [25, 8, 3, 6]]}, "outside the vocabulary"),
        ({"Full_Tokens": [[25, 8, 3, 6, 1], [25, 8, 3, 6]]}, "is no gene"),
        ({"Full_Tokens": [[25, 8, 3, 6, 27, 27], [25, 8, 3, 6]]}, "more than once"),
        ({"Full_Tokens": [[26, 8, 3, 6], [25, 8, 3, 6]]}, "not its sample words"),
        ({"Full_Tokens": [[25, 8], [25, 8, 3, 6]]}, "no tokens of condition"),
        ({"Full_Tokens": ["a", "b"]}, "no lists of whole numbers"),
        ({"Rows": [[7, 2], [1]]}, "outside its cell's genes"),
        ({"Rows": [[0], [1]]}, "differ in length"),
        ({"Sample_Names": ["../../etc", "../../etc"]}, "cannot be used as a name"),
        ({"Tissues": ["Lung", "Skin"]}, "differs within a slide"),
        ({"centroid_x": [float("nan"), 0.0]}, "not finite|no finite"),
        ({"centroid_x": ["a", "b"]}, "another type"),
        ({"Split": ["train", "secret"]}, "none of train"),
        ({"Counts": [[1], [2]]}, "do not belong to the genes"),
    ],
)
def test_hostile_rows_are_refused(tmp_path, change, message):
    vocabulary = load_published().vocabulary
    with pytest.raises(SpatialFormerError, match=message):
        import_dataset(foreign_rows(**change), vocabulary, tmp_path / "c", published_settings())
    assert not (tmp_path / "c").exists()


def test_units_are_asked_for(tmp_path):
    with pytest.raises(SpatialFormerError, match="lack the columns Blocks, Donors"):
        import_dataset(
            foreign_rows(),
            load_published().vocabulary,
            tmp_path / "c",
            ImportSettings(CorpusSettings()),
        )


@pytest.mark.security
def test_only_arrow_is_read(tmp_path, exported):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "dataset.py").write_text("raise SystemExit(3)")
    (folder / "data.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(SpatialFormerError, match="no Arrow rows"):
        read_rows(folder)
    (folder / "data-00000-of-00001.arrow").write_bytes(b"ARROW1\x00\x00 but not really")
    with pytest.raises(SpatialFormerError, match="other files beside"):
        read_rows(folder)
    (folder / "dataset.py").unlink()
    (folder / "data.pkl").unlink()
    with pytest.raises(SpatialFormerError, match="cannot be read"):
        read_rows(folder)


def test_without_the_library_the_extra_is_named(large, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SpatialFormerError, match=r"\[train\]"):
        export_dataset(large, tmp_path / "x")
