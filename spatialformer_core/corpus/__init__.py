"""The training corpus: tokens, co-occurring genes and cell graph of many slides on disk."""

from spatialformer_core.corpus.build import (
    CorpusSlide,
    build_corpus,
    describe,
    publish,
    write_slide,
)
from spatialformer_core.corpus.corpus import Corpus, NicheTargets
from spatialformer_core.corpus.intake import ImportSettings, import_dataset, told_by
from spatialformer_core.corpus.interchange import COLUMNS, export_dataset, read_rows
from spatialformer_core.corpus.loader import LoaderSettings, PairLoader, Place
from spatialformer_core.corpus.manifest import SLIDES, VOCABULARY, CorpusSettings, Manifest
from spatialformer_core.corpus.pairs import PairBatch, PairBatches
from spatialformer_core.corpus.report import corpus_report, write_report
from spatialformer_core.corpus.sequences import DensePairs, PairSequences, pack_pairs
from spatialformer_core.corpus.shard import (
    GAP,
    SPLIT_CODES,
    Shard,
    ShardInfo,
    Split,
)

__all__ = [
    "COLUMNS",
    "GAP",
    "SLIDES",
    "SPLIT_CODES",
    "VOCABULARY",
    "Corpus",
    "CorpusSettings",
    "CorpusSlide",
    "DensePairs",
    "ImportSettings",
    "LoaderSettings",
    "Manifest",
    "NicheTargets",
    "PairBatch",
    "PairBatches",
    "PairLoader",
    "PairSequences",
    "Place",
    "Shard",
    "ShardInfo",
    "Split",
    "build_corpus",
    "corpus_report",
    "describe",
    "export_dataset",
    "import_dataset",
    "pack_pairs",
    "publish",
    "read_rows",
    "told_by",
    "write_report",
    "write_slide",
]
