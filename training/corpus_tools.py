"""What can be done with a corpus: ``python -m training.corpus report|export|import ...``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from spatialformer_core import corpus as corpora
from spatialformer_core import files
from spatialformer_core.cooccurrence import CooccurrenceSettings
from spatialformer_core.corpus import (
    SPLIT_CODES,
    VOCABULARY,
    Corpus,
    CorpusSettings,
    ImportSettings,
)
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import PUBLISHED, Vocabulary, load_published
from training import common


def _find(name: str, home: Path) -> Path:
    """Return a corpus below the home folder, or anywhere if a path is given."""
    path = Path(name)
    return path if path.parent != Path() or path.is_dir() else common.corpus_folder(home, name)


def _report(arguments: argparse.Namespace) -> Path:
    home = arguments.home or files.home()
    corpus = Corpus.load(_find(arguments.corpus, home))
    return corpora.write_report(corpora.corpus_report(corpus), arguments.out)


def _export(arguments: argparse.Namespace) -> Path:
    home = arguments.home or files.home()
    corpus = Corpus.load(_find(arguments.corpus, home))
    return corpora.export_dataset(corpus, arguments.out, progress=common.report)


def _import(arguments: argparse.Namespace) -> Path:
    home = arguments.home or files.home()
    out = common.corpus_folder(home, arguments.name)
    rows = corpora.read_rows(arguments.dataset)
    vocabulary, told = _what_rows_mean(arguments)
    # Written first, as by the builder: a corpus without it cannot be trained on.
    facts = {
        "corpus": {"imported": arguments.dataset.name, **told.settings.model_dump(mode="json")},
        "simulated_slides": sorted(s for s, info in told.known.items() if info.simulated),
        "blocks": {},
        "qc": {},
    }
    if out.exists():
        raise SpatialFormerError(f"The corpus {arguments.name!r} exists already.", str(out.parent))
    files.write_json(common.facts_file(home, arguments.name), facts)
    return corpora.import_dataset(rows, vocabulary, out, told, progress=common.report)


def _what_rows_mean(arguments: argparse.Namespace) -> tuple[Vocabulary, ImportSettings]:
    beside = arguments.dataset / VOCABULARY
    told = corpora.told_by(arguments.dataset)
    if told is not None and arguments.vocabulary is None:
        return Vocabulary.load(beside), told
    if arguments.vocabulary is None:
        raise SpatialFormerError(
            "The rows come without a vocabulary.",
            where=str(arguments.dataset),
            fix="Say --vocabulary published, or the path of a vocabulary.json.",
        )
    settings = CorpusSettings(
        radius_um=arguments.radius_um,
        cooccurrence=CooccurrenceSettings(dims=arguments.dims),
    )
    foreign = ImportSettings(
        settings,
        donor_column=arguments.donor_column,
        block_column=arguments.block_column,
        split=SPLIT_CODES[arguments.split],
    )
    if arguments.vocabulary == PUBLISHED:
        published = load_published()
        return published.vocabulary, replace(foreign, token_ids=published.own_ids)
    return Vocabulary.load(Path(arguments.vocabulary)), foreign


def _parser(tool: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"training.corpus {tool}", description=_HELP[tool])
    if tool == "import":
        made.add_argument("dataset", type=Path, help="folder that save_to_disk wrote")
        made.add_argument("name", help="of the corpus")
        made.add_argument("--vocabulary", help="published, or a vocabulary.json; default: beside")
        made.add_argument("--donor-column", default="Donors")
        made.add_argument("--block-column", default="Blocks")
        made.add_argument("--split", choices=sorted(SPLIT_CODES), default="train")
        made.add_argument("--radius-um", type=float, default=30.0)
        made.add_argument("--dims", type=int, choices=(2, 3), default=2)
    else:
        made.add_argument("corpus", help="name below the home folder, or a path")
        made.add_argument("out", type=Path, help="folder that shall appear")
    made.add_argument("--home", type=Path, default=None, help="default: $SPATIALFORMER_HOME")
    return made


_HELP = {
    "report": "Write report.json, report.md and groups.parquet of a corpus.",
    "export": "Write a corpus as a Hugging Face dataset (Arrow).",
    "import": "Make a corpus of the rows of a Hugging Face dataset.",
}
TOOLS: dict[str, Callable[[argparse.Namespace], Path]] = {
    "report": _report,
    "export": _export,
    "import": _import,
}


def main(arguments: Sequence[str]) -> int:
    """Run one tool; return the exit code."""
    tool = arguments[0]
    return common.run(TOOLS[tool], _parser(tool).parse_args(arguments[1:]))
