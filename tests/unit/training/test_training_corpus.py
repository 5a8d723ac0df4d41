"""The corpus door: restart, invalidation, local processes, Dask with a killed worker."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from spatialformer_core import files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.corpus import Corpus
from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.jobs import Engine
from spatialformer_core.progress import silent
from spatialformer_core.slides import SlideStore, ingest
from training import common, corpus_tools
from training import corpus as door

SLIDES = ("alpha", "beta")
SPLIT = {"block_um": 80.0, "gap_um": 15.0, "fractions": (0.6, 0.2, 0.2), "patches": 1}


def recipe(**changes) -> door.CorpusRecipe:
    values = {"name": "tiny", "slides": SLIDES, "split": SPLIT, **changes}
    return door.CorpusRecipe.model_validate(values)


@pytest.fixture(scope="module")
def source(tmp_path_factory, bundles):
    """A home folder with two slides, to be copied."""
    folder = tmp_path_factory.mktemp("corpus")
    qc = QcThresholds(min_transcripts=10, min_genes=3)
    for number, name in enumerate(SLIDES):
        sample = SampleMetadata(
            donor=f"P{number}",
            block="1",
            condition="Disease",
            tissue="Lung",
            species="Human",
            assay="Xenium",
        )
        tissue = bundles.Tissue(n_cells=400 + 40 * number)
        table = bundles.write_table_folder(folder / name, tissue)
        ingest(table, SlideStore(folder / "home"), name=name, sample=sample, qc=qc)
    return folder / "home"


@pytest.fixture
def home(source, tmp_path):
    shutil.copytree(source / "slides", tmp_path / "h" / "slides")
    return tmp_path / "h"


@pytest.fixture(scope="module")
def expected(source):
    """Hashes of the corpus that one process makes in one go."""
    return hashes(door.build(recipe(), source, progress=silent))


def hashes(folder: Path) -> dict[str, str]:
    return files.read_json(folder / files.MANIFEST)["files"]


def test_a_corpus_of_one_process_is_whole(expected, source):
    corpus = Corpus.load(source / "corpora" / "tiny")
    assert [s.info.slide_id for s in corpus.shards] == list(SLIDES)
    assert corpus.manifest.settings.cooccurrence.dims == 2
    assert files.verify_directory(corpus.path) == []
    assert set(np.unique(corpus.split)) >= {0, 1, 2}
    assert not (source / "corpora" / "tiny.building").exists()
    facts = files.read_json(common.facts_file(source, "tiny"))
    assert facts["blocks"]["beta"]["gap_um"] == 15.0
    store = SlideStore(source)
    shard = corpus.shards[1]
    names = np.asarray(store.open("beta").cell_ids)[shard.source_cells]
    assert [name.decode() for name in shard.cell_ids] == names.tolist()


def test_a_stopped_run_goes_on_where_it_was(home, expected):
    done = []

    def stop_after_one(at: float, total: float, text: str) -> None:
        done.append(at)

    with pytest.raises(Cancelled):
        door.build(recipe(), home, progress=stop_after_one, cancel=lambda: len(done) > 1)
    building = home / "corpora" / "tiny.building" / "slides"
    kept = {p.name: (p / files.MANIFEST).stat().st_mtime_ns for p in building.iterdir()}
    assert sorted(kept) == ["alpha"]
    assert not (home / "corpora" / "tiny").exists()
    out = door.build(recipe(), home, progress=silent)
    assert hashes(out) == expected
    for name, when in kept.items():
        assert (out / "slides" / name / files.MANIFEST).stat().st_mtime_ns == when


def test_changed_settings_or_slides_are_made_again(home):
    made = []

    def note(done: float, total: float, text: str) -> None:
        if text.startswith("Shard "):
            made.append(text.removeprefix("Shard "))

    def until(n: int, **changes) -> list[str]:
        made.clear()
        with pytest.raises(Cancelled):
            door.build(recipe(**changes), home, progress=note, cancel=lambda: len(made) >= n)
        return list(made)

    fixed = {"vocabulary": "published"}
    assert until(1, **fixed) == ["alpha"]
    assert until(1, **fixed, radius_um=25.0) == ["alpha"]
    assert until(1, **fixed) == ["alpha"]
    # A slide is ingested anew, the vocabulary is the same.
    manifest = home / "slides" / "alpha" / files.MANIFEST
    manifest.write_text(manifest.read_text() + " ")
    assert until(1, **fixed) == ["alpha"]
    made.clear()
    door.build(recipe(**fixed), home, progress=note)
    assert made == ["beta"]


@pytest.mark.slow
def test_local_processes_make_the_same_bytes(home, expected):
    out = door.build(recipe(), home, engine=Engine(workers=2), progress=silent)
    assert hashes(out) == expected
    with pytest.raises(SpatialFormerError, match="exists already"):
        door.build(recipe(), home, progress=silent)


def kill_in_mid_shard(client, results: Path, killed: list[str]) -> None:
    """Kill a worker with all its processes as soon as one of its shards has begun."""
    import psutil

    pids = client.run(lambda: __import__("os").getpid())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.005)
        begun = [p.name.split(".partial-")[0] for p in results.glob("*.partial-*")]
        for address, keys in client.processing().items():
            for name in begun:
                if any(f"shard-{name}-" in str(key) for key in keys):
                    worker = psutil.Process(pids[address])
                    processes = [worker, *worker.children(recursive=True)]
                    for process in processes:
                        process.send_signal(signal.SIGKILL)
                    killed.append(name)
                    assert not files.is_complete(results / name)
                    return


def test_a_dask_cluster_that_loses_a_worker_makes_the_same_bytes(home, expected, monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    killed: list[str] = []
    results = home / "corpora" / "tiny.building" / "slides"
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        killer = threading.Thread(target=kill_in_mid_shard, args=(client, results, killed))
        killer.start()
        engine = Engine(scheduler=cluster.scheduler_address)
        out = door.build(recipe(), home, engine=engine, progress=silent)
        killer.join(10)
    assert len(killed) == 1
    assert hashes(out) == expected


def test_gene_names_are_mapped_counted_and_summed(home, tmp_path):
    slide = SlideStore(home).open("alpha")
    one, two, three = slide.genes[:3]
    table = tmp_path / "aliases.csv"
    table.write_text(f"previous,approved\n{one},{two}\n")
    changes = {"slides": ("alpha",), "genes": {"aliases": table}}
    corpus = Corpus.load(door.build(recipe(**changes), home, progress=silent))
    info = corpus.shards[0].info
    assert one not in corpus.vocabulary.genes
    assert info.merged_genes == (two,)
    assert info.mapped_genes["alias"] == 1
    assert info.unknown_counts == 0
    kept = slide.counts[slide.passes_qc]
    token = corpus.vocabulary.gene_ids([two])[0]
    cells = corpus.cells(np.arange(corpus.n_cells))
    assert cells.counts[cells.tokens == token].sum() == kept[:, :2].sum()
    # Against a vocabulary that lacks a gene, it is named and counted.
    path = tmp_path / "vocabulary.json"
    known = corpus.vocabulary
    lacking = [i for i, gene in enumerate(known.genes) if gene != three]
    type(known)(
        known.words, tuple(known.genes[i] for i in lacking), known.gene_medians[lacking]
    ).save(path)
    changes |= {"vocabulary": str(path)}
    out = door.build(recipe(**changes), home, replace=True, progress=silent)
    info = Corpus.load(out).shards[0].info
    assert info.unknown_genes == (three,)
    assert info.unknown_counts == kept[:, 2].sum()


def test_the_tools_report_export_and_import(home, expected, tmp_path, monkeypatch, capsys):
    door.build(recipe(), home, progress=silent)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["training.corpus", *arguments, "--home", str(home)])
        return door.main()

    assert call("report", "tiny", str(tmp_path / "report")) == 0
    assert "| Lung, Disease |" in (tmp_path / "report" / "report.md").read_text()
    assert call("export", "tiny", str(tmp_path / "rows")) == 0
    assert call("import", str(tmp_path / "rows"), "again") == 0
    assert hashes(home / "corpora" / "again").keys() <= expected.keys()
    assert common.facts_file(home, "again").is_file()
    assert call("import", str(tmp_path / "rows" / "rows"), "third") == 2
    assert "without a vocabulary" in capsys.readouterr().err
    assert set(corpus_tools.TOOLS) == {"report", "export", "import"}
