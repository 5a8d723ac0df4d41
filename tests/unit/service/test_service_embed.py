"""Embedding and co-localisation as jobs and verbs, on slides and on files of any origin."""

from __future__ import annotations

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spatialformer_core import files
from spatialformer_core.cli import app
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.evaluation.splits import TEST, TRAIN, VALIDATION, split_by_recipe
from spatialformer_core.inference import cls_states, make_scorer
from spatialformer_core.jobs import run_job
from spatialformer_core.model import build, load_checkpoint, preset_config, save_checkpoint
from spatialformer_core.progress import never, silent
from spatialformer_core.service import model_jobs, open_services
from spatialformer_core.service.colocalise import ColocaliseRequest, colocalisation_result
from spatialformer_core.service.embed import EmbedRequest, embedding_result
from spatialformer_core.service.kinds import resolve
from spatialformer_core.slides import SlideStore, ingest
from spatialformer_core.vocabulary import build_vocabulary, tokenise

GENES = [f"GENE{k:02d}" for k in range(20)]
WORDS = {"condition": "Disease", "tissue": "Lung", "species": "Human", "assay": "Xenium"}
SAMPLE = SampleMetadata(donor="P1", block="1", **WORDS)
BLOCKS = {
    "block_um": 100.0,
    "gap_um": 50.0,
    "fractions": [0.6, 0.15, 0.25],
    "patches": 1,
    "seed": 0,
}
OPTIONS = [f"--{key}={value}" for key, value in WORDS.items()]


def cells(n=600):
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, (n, 20)).astype(np.float32)
    counts[:7] = 0
    counts[:7, 0] = 1
    kind = np.array(["A", "B", "C"])[rng.integers(0, 3, n)]
    table = anndata.AnnData(
        counts,
        obs=pd.DataFrame({"kind": pd.Categorical(kind)}, index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(index=GENES),
    )
    table.obsm["spatial"] = rng.random((n, 2)) * (1200.0, 600.0)
    return table


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    home = tmp_path_factory.mktemp("embed-home")
    sources = home / "sources"
    sources.mkdir()
    table = cells()
    table.write_h5ad(sources / "placed.h5ad")
    del table.obsm["spatial"]
    table.write_h5ad(sources / "loose.h5ad")
    table.var_names = [f"X{k}" for k in range(20)]
    table.write_h5ad(sources / "foreign.h5ad")
    (home / "config.yaml").write_text(f"slide_roots: [{sources}]\n")
    store = SlideStore(home)
    qc = QcThresholds(min_transcripts=10, min_genes=5)
    ingest(sources / "placed.h5ad", store, name="Slide", sample=SAMPLE, qc=qc)
    slide = store.open("slide")
    kept = np.asarray(slide.passes_qc)
    codes = split_by_recipe(slide.xy_um, BLOCKS)
    names = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    counts = {name: int(np.sum(codes[kept] == code)) for name, code in names.items()}
    vocabulary = build_vocabulary([(slide.genes, slide.counts)], [SAMPLE])
    model = build(preset_config("two-tower", "tiny", len(vocabulary)), seed=1)
    seen = {"trained_on": [{"slide": "slide", "split": counts}], "blocks": {"slide": BLOCKS}}
    facts = {"foreign": {"trained_on": []}, "own": seen, "unknown": {}, "toy": {"simulated": True}}
    for name, more in facts.items():
        folder = home / "checkpoints" / name
        save_checkpoint(folder, model, vocabulary, {"simulated": False, **more}, "A card.")
    return home


@pytest.fixture
def home(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("SPATIALFORMER_HOME", str(prepared))
    monkeypatch.chdir(tmp_path)
    return prepared


def job(kind, out, **params):
    out.mkdir()
    resolve(kind)(params, out, silent, never)
    return out


def source_id(name):
    return next(entry.id for entry in open_services().sources() if entry.name == name)


def test_a_slide_is_embedded(home, tmp_path):
    out = job("embed", tmp_path / "out", slide_id="slide", checkpoint_id="foreign")
    view = embedding_result(out)
    slide = SlideStore(home).open("slide")
    checkpoint = load_checkpoint(home / "checkpoints" / "foreign")
    ids = checkpoint.vocabulary.gene_ids(slide.genes)
    meta = checkpoint.vocabulary.meta_ids(SAMPLE)
    tokens, _ = tokenise(slide.counts, ids, checkpoint.vocabulary, meta)
    expected = pd.DataFrame(cls_states(checkpoint.model, tokens), index=slide.cell_ids)
    order = view.table["cell_id"]
    assert list(order) == sorted(order)
    np.testing.assert_allclose(view.vectors, expected.loc[order].to_numpy(), atol=1e-5)
    assert view.table["passes_qc"].sum() == slide.meta.n_cells_kept == 593
    codes = pd.Series(slide.group("kind").codes, index=slide.cell_ids).loc[order].to_numpy()
    np.testing.assert_array_equal(view.table["group:kind"].cat.codes, codes)
    assert view.info["checkpoint"]["id"] == checkpoint.id
    assert view.info["request"]["slide_id"] == "slide"
    assert not list(out.glob("*.partial-*"))


def test_masked_meta_and_files_of_any_order(home, tmp_path):
    loose = source_id("loose.h5ad")
    asked = {"source_id": loose, "checkpoint_id": "foreign", "meta": "masked"}
    one = embedding_result(job("embed", tmp_path / "one", **asked))
    shuffled = anndata.read_h5ad(home / "sources" / "loose.h5ad")[::-1].copy()
    shuffled.write_h5ad(tmp_path / "shuffled.h5ad")
    arguments = ["embed", "shuffled.h5ad", "--checkpoint", "foreign", "--meta", "masked", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["out"] == "shuffled-embedding"
    other = embedding_result(tmp_path / "shuffled-embedding")
    np.testing.assert_array_equal(one.vectors, other.vectors)
    sampled = SAMPLE.model_copy(update={"tissue": "Liver"}).model_dump()
    again = embedding_result(job("embed", tmp_path / "two", **asked, sample=sampled))
    np.testing.assert_array_equal(one.vectors, again.vectors)


def test_genes_are_embedded(home, tmp_path):
    view = embedding_result(
        job("embed", tmp_path / "out", slide_id="slide", checkpoint_id="foreign", level="gene")
    )
    assert list(view.table["gene"]) == GENES
    counts = SlideStore(home).open("slide").counts
    np.testing.assert_array_equal(view.table["n_cells"], np.asarray((counts > 0).sum(0)).ravel())
    assert np.isfinite(view.vectors).all()


@pytest.mark.slow
def test_the_map_is_drawn_of_cells_that_pass(home, tmp_path):
    asked = {"slide_id": "slide", "checkpoint_id": "foreign", "n_umap": 100}
    views = [embedding_result(job("embed", tmp_path / name, **asked)) for name in "ab"]
    one, other = (view.table[["umap_1", "umap_2"]].to_numpy() for view in views)
    np.testing.assert_array_equal(one, other)
    drawn = np.isfinite(one).all(1)
    assert drawn.sum() == 100
    assert views[0].table["passes_qc"][drawn].all()


def test_held_out_cells_alone_are_asked_where_they_are_known(home, tmp_path):
    asked = {"slide_id": "slide", "groupby": "kind", "n_queries": 50}
    own = colocalisation_result(job("colocalise", tmp_path / "own", checkpoint_id="own", **asked))
    slide = SlideStore(home).open("slide")
    codes = split_by_recipe(slide.xy_um, BLOCKS)
    test = np.asarray(slide.passes_qc) & (codes == TEST)
    assert own.info["n_candidates"] == test.sum()
    assert set(own.edges["cell_id"]) | set(own.edges["neighbour_id"]) <= set(slide.cell_ids[test])
    assert "type_pair_prior" in own.info["methods"]
    assert "seen none" in own.info["exposure"]
    every = colocalisation_result(
        job("colocalise", tmp_path / "all", checkpoint_id="own", cells="all", **asked)
    )
    assert every.info["n_candidates"] == 593
    assert "type_pair_prior" not in every.info["methods"]
    assert "flatters" in every.info["exposure"]
    new = colocalisation_result(
        job("colocalise", tmp_path / "new", checkpoint_id="foreign", **asked)
    )
    assert new.info["n_candidates"] == 593
    assert "no part" in new.info["exposure"]
    assert "prior of type pairs is not shown" in new.info["notes"][0]
    with pytest.raises(SpatialFormerError, match="Nobody can tell"):
        job("colocalise", tmp_path / "x", checkpoint_id="unknown", cells="held_out", **asked)


def test_scores_on_disk_are_those_of_the_model(home, tmp_path):
    view = colocalisation_result(
        job("colocalise", tmp_path / "out", slide_id="slide", checkpoint_id="foreign", k=3)
    )
    slide = SlideStore(home).open("slide")
    checkpoint = load_checkpoint(home / "checkpoints" / "foreign")
    ids = checkpoint.vocabulary.gene_ids(slide.genes)
    meta = checkpoint.vocabulary.meta_ids(SAMPLE)
    tokens, _ = tokenise(slide.counts, ids, checkpoint.vocabulary, meta)
    scorer = make_scorer(checkpoint)
    encoded = scorer.encode(tokens)
    place = {name: k for k, name in enumerate(slide.cell_ids)}
    rows = [view.edges[c].map(place).to_numpy() for c in ("cell_id", "neighbour_id")]
    logits = scorer.score(*(encoded.take(r) for r in rows))
    np.testing.assert_allclose(view.edges["score"], 1 / (1 + np.exp(-logits)), atol=1e-5)
    xy = np.asarray(slide.xy_um)
    away = np.linalg.norm(xy[rows[0]] - xy[rows[1]], axis=1)
    np.testing.assert_allclose(view.edges["distance_um"], away, atol=1e-3)
    np.testing.assert_array_equal(view.edges["true"], away <= 30)
    assert {"slide", "reach"} == set(view.pairs["candidates"])


def test_cells_of_a_file_without_coordinates(home, tmp_path):
    loose = str(home / "sources" / "loose.h5ad")
    ask = ["colocalise", loose, "--checkpoint", "foreign", "--groupby", "kind", "--queries", "40"]
    done = CliRunner().invoke(app, [*ask, "--out", "out", *OPTIONS])
    assert done.exit_code == 0, done.output
    assert "no coordinates" in done.stdout
    view = colocalisation_result(tmp_path / "out")
    assert set(view.pairs["candidates"]) == {"cells"}
    assert "x_um" not in view.edges
    assert len(view.types) == 0
    for more, words in (
        ([], "not known"),
        (OPTIONS[:2], "--species, --assay missing"),
        ([*OPTIONS, "--cells", "held_out"], "Nobody can tell"),
    ):
        failed = CliRunner().invoke(app, [*ask, "--out", "other", *more])
        assert isinstance(failed.exception, SpatialFormerError)
        assert words in str(failed.exception)
        assert not (tmp_path / "other").exists()


def test_a_slide_from_the_command_line(home, tmp_path):
    ask = ["colocalise", "slide", "--checkpoint", "foreign", "--groupby", "kind", "--queries", "40"]
    done = CliRunner().invoke(app, [*ask, "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["out"] == "slide-colocalisation"
    assert facts["n_queries"] == 40
    assert files.is_complete(tmp_path / "slide-colocalisation")
    done = CliRunner().invoke(app, ["embed", "slide", "--checkpoint", "foreign"])
    assert done.exit_code == 0, done.output
    assert "600 cells in 16 dimensions" in done.stdout


def test_pages_get_results_by_job(home, monkeypatch):
    monkeypatch.setattr("spatialformer_core.service.model_jobs.ensure_worker", lambda home: None)
    services = open_services()
    asked = {"slide_id": "slide", "checkpoint_id": "foreign"}
    jobs = [
        model_jobs.submit(services, EmbedRequest(**asked), "me"),
        model_jobs.submit(services, ColocaliseRequest(**asked, n_queries=30), "me"),
    ]
    for job_id, kind in zip(jobs, ("embed", "colocalise"), strict=True):
        queued = services.queue.get(job_id, "me")
        assert queued.kind == kind
        with pytest.raises(SpatialFormerError, match="has no result"):
            model_jobs.embedding(services, job_id, "me") if kind == "embed" else (
                model_jobs.colocalisation(services, job_id, "me")
            )
        run_job(services.queue, job_id, resolve, silent)
    assert len(model_jobs.embedding(services, jobs[0], "me").table) == 600
    assert model_jobs.colocalisation(services, jobs[1], "me").info["n_queries"] == 30
    with pytest.raises(SpatialFormerError, match="not 'embed'"):
        model_jobs.embedding(services, jobs[1], "me")
    with pytest.raises(SpatialFormerError, match="no job"):
        model_jobs.embedding(services, jobs[0], "another")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"checkpoint_id": "toy", "slide_id": "slide"}, "simulated"),
        ({"checkpoint_id": "foreign"}, "Neither"),
        ({"checkpoint_id": "foreign", "slide_id": "slide", "source_id": "x"}, "exclude"),
        ({"checkpoint_id": "foreign", "slide_id": "../x"}, "slide"),
        ({"checkpoint_id": "foreign", "source_id": "x"}, "no source"),
        ({"checkpoint_id": "nobody", "slide_id": "slide"}, "no checkpoint"),
    ],
)
def test_what_cannot_be_done_is_said(home, tmp_path, params, words):
    for kind in ("embed", "colocalise"):
        with pytest.raises(SpatialFormerError, match=words):
            job(kind, tmp_path / kind, **params)


def test_foreign_genes_groupings_and_files_are_refused(home, tmp_path):
    asked = {"checkpoint_id": "foreign", "sample": SAMPLE.model_dump()}
    with pytest.raises(SpatialFormerError, match="knows 0% of the 20 genes"):
        job("embed", tmp_path / "a", source_id=source_id("foreign.h5ad"), **asked)
    with pytest.raises(SpatialFormerError, match="No grouping"):
        job("colocalise", tmp_path / "b", source_id=source_id("loose.h5ad"), **asked)
    with pytest.raises(SpatialFormerError, match="no grouping 'nothing'"):
        job(
            "colocalise",
            tmp_path / "c",
            slide_id="slide",
            checkpoint_id="foreign",
            groupby="nothing",
        )
    (tmp_path / "fake.h5ad").write_text("no HDF5")
    failed = CliRunner().invoke(app, ["embed", "fake.h5ad", "--checkpoint", "foreign"])
    assert "no HDF5 file" in str(failed.exception)
    with pytest.raises(SpatialFormerError, match="holds no"):
        embedding_result(tmp_path)


def test_simulated_checkpoints_mark_what_they_make(home, tmp_path):
    view = embedding_result(
        job(
            "embed",
            tmp_path / "out",
            slide_id="slide",
            checkpoint_id="toy",
            allow_simulated=True,
        )
    )
    assert view.info["marks"] == ["SIMULATED CHECKPOINT on real cells"]
