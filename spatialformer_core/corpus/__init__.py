"""The training corpus: tokens, co-occurring genes and cell graph of many slides on disk."""

from spatialformer_core.corpus.build import CorpusSlide, build_corpus
from spatialformer_core.corpus.corpus import Corpus, NicheTargets
from spatialformer_core.corpus.pairs import PairBatch, PairBatches
from spatialformer_core.corpus.shard import GAP, SPLIT_CODES, Shard, ShardInfo, Split

__all__ = [
    "GAP",
    "SPLIT_CODES",
    "Corpus",
    "CorpusSlide",
    "NicheTargets",
    "PairBatch",
    "PairBatches",
    "Shard",
    "ShardInfo",
    "Split",
    "build_corpus",
]
