"""Faults at every point where a writer touches the disk; run as a program, prints JSON.

``python faults.py ROOT STEP FULL`` builds a small store below ROOT, looks at every STEP-th moment
of an ingest, a replacement, a change and a corpus, and at FULL full disks.

A *point* is an event that changes a folder: opening for writing, making, renaming, linking,
removing, syncing, swapping. Python's audit hook sees those of every library, zarr's too. While it
acts on one of them, the others wait.

What a kill leaves behind at a point is what lies on the disk then, so that one run gives all its
moments: at each chosen point the store is copied, and the copy is what the next process finds. Ten
processes are killed in earnest, by SIGKILL after a random time. A full disk is an exception at the
point, in the running process.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from spatialformer_core import disk, files
from spatialformer_core.config import QcThresholds, SampleMetadata
from spatialformer_core.corpus import Corpus, CorpusSlide, build_corpus
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.slides import Groups, SlideChange, SlideStore, change_slide, ingest
from spatialformer_core.vocabulary import build_vocabulary

SAMPLE = SampleMetadata(donor="d", block="b", condition="c", tissue="t", species="s", assay="a")
QC = QcThresholds(min_qv=20, min_transcripts=40, min_genes=10)
FILLING = ("open", "os.mkdir", "os.rename", "os.link", "fsync")
WATCHED = (*FILLING, "os.remove", "os.rmdir", "shutil.rmtree", "swap", "swapped")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class Points:
    """Numbers the points of what runs inside the ``with`` block and acts at some of them."""

    root: str
    act: Callable[[int], None] = lambda number: None
    events: list[str] = field(default_factory=list)
    on: bool = False
    published: int = 0
    """Points since the manifest of the whole folder was begun."""
    acting: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def __enter__(self) -> Points:
        Points.current, self.on = self, True
        return self

    def __exit__(self, *_: object) -> None:
        self.on = False

    def see(self, event: str, path: str = "") -> None:
        if not self.on or (path.startswith("/") and not path.startswith(self.root)):
            return
        if self.acting == threading.get_ident():  # what the act itself does is no point
            return
        with self.lock:
            self.events.append(event)
            self.published += bool(self.published) or path.count(files.MANIFEST)
            self.acting = threading.get_ident()
            try:
                self.act(len(self.events) - 1)
            finally:
                self.acting = 0


def watch() -> None:
    """Report the events of this process to the current `Points`."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        points = getattr(Points, "current", None)
        if points is None or not points.on or event not in WATCHED:
            return
        if event == "open":
            _, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & _WRITES
            if not writes:
                return
        points.see(event, str(arguments[0]))

    def see(event: str) -> None:
        if (points := getattr(Points, "current", None)) is not None:
            points.see(event)

    sys.addaudithook(hook)
    swap = disk.exchange

    def fsync(_: int) -> None:
        see("fsync")  # the disk itself is waited for elsewhere: here the power stays on

    def exchange(left: Path, right: Path) -> bool:
        see("swap")
        done = swap(left, right)
        see("swapped")
        return done

    os.fsync, disk.exchange = fsync, exchange


def copy_of(store: Path, target: Path) -> None:
    """Copy a store as it lies on the disk; finished slides, which nobody writes to, by links."""
    target.mkdir(parents=True)
    for path in store.iterdir():
        if path.is_file():
            shutil.copyfile(path, target / path.name)
            continue
        copy = os.link if files.is_complete(path) else copy_if_there
        shutil.copytree(path, target / path.name, copy_function=copy)


def copy_if_there(source: str, target: str) -> None:
    """Copy a file that another thread may be giving its name."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, target)


class Bench:
    """A store with one slide and its region, and the means to write to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        spec = importlib.util.spec_from_file_location("b", Path(__file__).with_name("bundles.py"))
        self.bundles = importlib.util.module_from_spec(spec)
        sys.modules["b"] = self.bundles
        spec.loader.exec_module(self.bundles)
        make = self.bundles.Tissue
        self.source = self.bundles.write_xenium(root / "source", make(n_cells=4))
        self.other = self.bundles.write_xenium(root / "other", make(n_cells=5, seed=1))
        self.home = root / "home"
        self.ingest(self.home, "old")
        (self.home / "slides" / "old.user" / "rois").mkdir(parents=True)
        self.slides = [tiny_slide(name, seed) for name, seed in (("one", 1), ("two", 2))]
        self.vocabulary = build_vocabulary(
            [(s.genes, s.counts) for s in self.slides], [s.sample for s in self.slides]
        )

    def ingest(self, home: Path, name: str, *, other: bool = False) -> None:
        source = self.other if other else self.source
        ingest(source, SlideStore(home), name=name, sample=SAMPLE, qc=QC, replace=other)

    def change(self, home: Path) -> None:
        store = SlideStore(home)
        codes = np.arange(store.open("old").meta.n_cells) % 2
        groups = {"halves": Groups(("a", "b"), codes.astype(np.int16))}
        sample = SAMPLE.model_copy(update={"condition": "other"})
        change_slide(store, "old", SlideChange(groups=groups, sample=sample))

    def corpus(self, out: Path) -> None:
        build_corpus(self.slides, self.vocabulary, out)

    def fresh_home(self, name: str) -> Path:
        home = self.root / name
        copy_of(self.home / "slides", home / "slides")
        return home


def tiny_slide(name: str, seed: int) -> CorpusSlide:
    """Return forty cells with eight genes each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.repeat(np.arange(40), 8), rng.integers(0, 30, 320)
    counts = sp.csr_matrix((np.ones(320, np.int32), (rows, columns)), (40, 30))
    counts.sum_duplicates()
    genes = tuple(f"G{k}" for k in range(30))
    xy = rng.uniform(0, 200, (40, 2)).astype(np.float32)
    split = np.zeros(40, np.int8)
    return CorpusSlide(name, SAMPLE, genes, counts, xy, np.ones(40, np.bool_), split)


def manifest(home: Path, slide: str) -> str:
    return files.sha256_file(home / "slides" / slide / files.MANIFEST)


def judge_store(home: Path, allowed: dict[str, set[str]], *, optional: str = "") -> list[str]:
    """Say what is wrong with a store: each slide whole, old or new, nothing else after a sweep."""
    store, wrong = SlideStore(home), []
    listed = {meta.slide_id for meta in store.list()}
    if not listed >= set(allowed) - {optional} or not listed <= set(allowed):
        return [f"lists {sorted(listed)}"]
    for slide in listed:
        wrong += [f"{slide}: {sentence}" for sentence in store.verify(slide)]
        if manifest(home, slide) not in allowed[slide]:
            wrong.append(f"{slide} is neither the old nor the new one")
    store.sweep()
    left = {path.name for path in store.root.iterdir()}
    if left != listed | {"old.user"}:
        wrong.append(f"a sweep leaves {sorted(left - listed)}")
    if {meta.slide_id for meta in store.list()} != listed:
        wrong.append("a sweep changes what is listed")
    return wrong


def judge_corpus(out: Path) -> list[str]:
    """Say what is wrong with a corpus: there and whole, or not there."""
    files.sweep_partials(out.parent)
    left = [path.name for path in out.parent.iterdir()]
    if left not in ([], [out.name]):
        return [f"a sweep leaves {left}"]
    if not left:
        return []
    Corpus.load(out)
    return files.compare_directory(out).sentences()


def kills(
    bench: Bench, name: str, chosen: range, run: Callable[[Path], None], *, near: int = 30
) -> list[Path]:
    """Run once, with a copy of the store at the chosen points and at those around the renaming."""
    home = bench.fresh_home(name)
    states: list[Path] = []

    def act(number: int) -> None:
        if number in chosen or 0 < points.published <= near:
            states.append(bench.root / f"{name}-{number}")
            copy_of(home / "slides", states[-1] / "slides")

    with Points(str(bench.root), act) as points:
        run(home)
    return states


def killed_ingests(bench: Bench, step: int) -> dict[str, Any]:
    """Judge what a kill leaves at points of an ingest and of two kinds of replacement."""
    old, found = manifest(bench.home, "old"), {}
    jobs: dict[str, tuple[int, Callable[[Path], None]]] = {
        "ingest": (step, lambda home: bench.ingest(home, "new")),
        "replace": (2 * step, lambda home: bench.ingest(home, "old", other=True)),
        "change": (2 * step, bench.change),
        "replace_without_swap": (20 * step, lambda home: without_swap(bench, home)),
    }
    for name, (every, run) in jobs.items():
        states = kills(bench, name, range(0, 10_000, every), run)
        slide = "new" if name == "ingest" else "old"
        allowed = {"old": {old}}
        allowed[slide] = allowed.get(slide, set()) | {manifest(bench.root / name, slide)}
        judged = {s.name: judge_store(s, allowed, optional="new") for s in states}
        for state in states[:: len(states) - 1]:
            bench.ingest(state, "later")
            judged[state.name] += SlideStore(state).verify("later")
        wrong = {state: sentences for state, sentences in judged.items() if sentences}
        found[name] = {"points": len(states), "wrong": wrong}
    return found


def without_swap(bench: Bench, home: Path) -> None:
    """Replace on a file system that cannot swap two folders: only the last points differ."""
    swap = disk.exchange
    disk.exchange = lambda *_: False
    try:
        bench.ingest(home, "old", other=True)
    finally:
        disk.exchange = swap


def killed_corpora(bench: Bench, step: int) -> dict[str, Any]:
    """Judge what a kill leaves at points of building a corpus."""
    chosen = range(0, 10_000, step)
    states = kills(bench, "corpus", chosen, lambda home: bench.corpus(home / "slides" / "c"))
    wrong = {}
    for state in states:
        for name in ("old", "old.user"):
            shutil.rmtree(state / "slides" / name)
        if found := judge_corpus(state / "slides" / "c"):
            wrong[state.name] = found
    return {"corpus": {"points": len(states), "wrong": wrong}}


def full_disks(bench: Bench, n: int) -> dict[str, Any]:
    """Judge a disk that is full at points of an ingest, a replacement and a corpus."""
    jobs: dict[str, tuple[int, str, Callable[[Path], None]]] = {
        "full_ingest": (n // 2, "new", lambda home: bench.ingest(home, "new")),
        "full_replace": (n // 4, "old", lambda home: bench.ingest(home, "old", other=True)),
        "full_change": (n // 4, "old", bench.change),
        "full_corpus": (n // 4, "c", lambda home: bench.corpus(home / "slides" / "c")),
    }
    return {name: full_disk(bench, name, *job) for name, job in jobs.items()}


def full_disk(
    bench: Bench, name: str, n: int, target: str, run: Callable[[Path], None]
) -> dict[str, Any]:
    """Fill the disk at ``n`` points, one run each."""
    home = bench.fresh_home(f"{name}-whole")
    with Points(str(bench.root)) as counted:
        run(home)
    whole = file_names(home / "slides" / target)
    filling = [i for i, event in enumerate(counted.events) if event in FILLING]
    chosen = [filling[int(i)] for i in np.linspace(0, len(filling) - 1, n)]
    wrong = {}
    for point in chosen:
        home = bench.fresh_home(f"{name}-{point}")
        if sentence := full_at(bench, home, point, run):
            wrong[str(point)] = sentence
        there = home / "slides" / target
        if files.is_complete(there):
            if files.compare_directory(there) or (
                manifest(home, target) != manifest(bench.home, "old") and file_names(there) != whole
            ):
                wrong[str(point)] = f"{target} is there and not whole"
        elif target == "old":
            wrong[str(point)] = "the old slide is gone"
    return {"points": len(chosen), "wrong": wrong}


def file_names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def full_at(bench: Bench, home: Path, point: int, run: Callable[[Path], None]) -> str:
    """Fill the disk at one point; return what is wrong with what is said and left then."""

    def act(number: int) -> None:
        if number == point:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    noticed = True
    try:
        with Points(str(bench.root), act):
            run(home)
        noticed = False  # making a folder that is there already cannot fail
    except SpatialFormerError as error:
        if "disk is full" not in error.message:
            return f"it says {error.message}"
    except OSError as error:
        return f"it raises {error!r}"
    names = {path.name for path in (home / "slides").iterdir()}
    left = sorted(name for name in names if "partial" in name)
    return f"it leaves {left}, noticed: {noticed}" if left else ""


def killed_in_earnest(bench: Bench, n: int, seed: int = 0) -> dict[str, Any]:
    """Send SIGKILL to forked writers after random times."""
    rng, wrong, died = random.Random(seed), {}, 0
    old = manifest(bench.home, "old")
    start = time.monotonic()
    bench.ingest(bench.root / "timed", "x")
    duration_s = {"ingest": time.monotonic() - start}
    start = time.monotonic()
    bench.corpus(bench.root / "timed" / "c")
    duration_s["corpus"] = time.monotonic() - start
    for number in range(n):
        kind = ("ingest", "corpus")[number % 2]
        home = bench.fresh_home(f"killed-{number}")
        out = home / "corpora" / "c"
        out.parent.mkdir()
        child = os.fork()
        if child == 0:
            try:
                if kind == "ingest":
                    bench.ingest(home, "old", other=True)
                else:
                    bench.corpus(out)
                signal.pause()
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0, duration_s[kind]))
        os.kill(child, signal.SIGKILL)
        died += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        new = manifest(home, "old") if files.is_complete(home / "slides" / "old") else ""
        found = judge_store(home, {"old": {old, new}}) + judge_corpus(out)
        if kind == "corpus":
            bench.corpus(home / "corpora" / "later")
        if found:
            wrong[f"{number} {kind}"] = found
    return {"sigkill": {"points": n, "died": died, "wrong": wrong}}


def main() -> None:
    root, step, full = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    bench = Bench(root)
    watch()
    found = killed_in_earnest(bench, 10)
    found |= killed_ingests(bench, step) | killed_corpora(bench, max(step // 4, 1))
    found |= full_disks(bench, full)
    sys.stdout.write(json.dumps(found | {"cpu_s": time.process_time()}) + "\n")


if __name__ == "__main__":
    main()
