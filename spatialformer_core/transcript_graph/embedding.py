"""The folder of a gene embedding: a vector per gene, what it was learnt from and how well.

``embedding.safetensors vocabulary.json provenance.json report.json``. Nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import BoolArray, FloatArray, LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.vocabulary import Vocabulary

TENSORS = "embedding.safetensors"
VOCABULARY = "vocabulary.json"
PROVENANCE = "provenance.json"
REPORT = "report.json"

_MAX_BYTES = 1 << 30
_MAX_SIZE = 1 << 14
_FIX = "Copy the folder again, or train the embedding again from its recipe."


@dataclass(frozen=True, slots=True)
class GeneEmbedding:
    """One vector per token of a vocabulary.

    Attributes
    ----------
    table
        Row = token id; zeros where nothing was learnt, shape ``(len(vocabulary), d)``.
    learnt
        Which tokens are genes that had transcripts in training, shape ``(len(vocabulary),)``.
    transcripts
        Transcripts of which a row is the mean, shape ``(len(vocabulary),)``.
    provenance
        What it was learnt from; ``simulated`` is True if any slide was.
    """

    table: FloatArray
    learnt: BoolArray
    transcripts: LongArray
    provenance: dict[str, Any]


def save_gene_embedding(
    folder: Path,
    embedding: GeneEmbedding,
    vocabulary: Vocabulary,
    report: Mapping[str, Any],
    *,
    replace: bool = False,
) -> None:
    """Write the folder; it appears whole or not at all.

    Raises
    ------
    SpatialFormerError
        If it is there already and shall not be replaced, or a value is not finite.
    """
    if not np.isfinite(embedding.table).all():
        raise SpatialFormerError(
            "The embedding holds values that are not finite.", fix="Use a lower learning rate."
        )
    import safetensors.numpy

    blob = safetensors.numpy.save(
        {
            "table": np.ascontiguousarray(embedding.table, np.float32),
            "transcripts": np.ascontiguousarray(embedding.transcripts, np.int64),
        },
        {"vocabulary": vocabulary.fingerprint},
    )
    with files.atomic_directory(folder, replace=replace) as partial:
        with files.atomic_write(partial / TENSORS) as stream:
            stream.write(blob)
        vocabulary.save(partial / VOCABULARY)
        files.write_json(partial / PROVENANCE, embedding.provenance)
        files.write_json(partial / REPORT, dict(report))


def load_gene_embedding(folder: Path, vocabulary: Vocabulary) -> GeneEmbedding:
    """Read an embedding and lay it out by the ids of ``vocabulary``.

    Genes are matched by symbol, so the vocabulary need not be the one of the training. Genes that
    the embedding does not know, and tokens that are no genes, have rows of zeros.

    Parameters
    ----------
    folder
        What `save_gene_embedding` wrote; it is not trusted.
    vocabulary
        Decides the rows.

    Raises
    ------
    SpatialFormerError
        If the folder is unfinished or damaged, or knows no gene of the vocabulary.
    """
    if not files.is_complete(folder):
        raise SpatialFormerError("This is no finished gene embedding.", str(folder), _FIX)
    own = Vocabulary.load(folder / VOCABULARY)
    table, transcripts = _read_tensors(folder / TENSORS, own)
    provenance = files.read_json(folder / PROVENANCE)
    if not isinstance(provenance, dict) or not isinstance(provenance.get("simulated"), bool):
        raise SpatialFormerError(
            "The provenance does not say whether the tissue was simulated.", str(folder), _FIX
        )
    ids = own.gene_ids(vocabulary.genes)
    source = np.concatenate([np.full(vocabulary.gene_offset, -1), ids])
    learnt = (source >= 0) & (transcripts[source] > 0)
    if not learnt.any():
        raise SpatialFormerError(
            f"The embedding knows none of the {len(vocabulary.genes):,} genes.",
            where=str(folder),
            fix="Choose an embedding that was trained on this panel.",
        )
    return GeneEmbedding(
        np.where(learnt[:, None], table[source], np.float32(0)),
        learnt,
        np.where(learnt, transcripts[source], 0),
        provenance,
    )


def _read_tensors(path: Path, vocabulary: Vocabulary) -> tuple[FloatArray, LongArray]:
    import safetensors

    where = str(path)
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise SpatialFormerError("The table is missing or larger than 1 GB.", where, _FIX)
    try:
        with safetensors.safe_open(path, framework="np") as stream:
            fingerprint = (stream.metadata() or {}).get("vocabulary")
            table, transcripts = (stream.get_tensor(n) for n in ("table", "transcripts"))
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise SpatialFormerError(f"The table cannot be read: {error}.", where, _FIX) from error
    n = len(vocabulary)
    is_whole = (
        fingerprint == vocabulary.fingerprint
        and table.ndim == 2
        and len(table) == n
        and 0 < table.shape[1] <= _MAX_SIZE
        and table.dtype == np.float32
        and transcripts.shape == (n,)
        and transcripts.dtype == np.int64
        and bool(np.isfinite(table).all())
    )
    if not is_whole:
        raise SpatialFormerError(
            "The table does not belong to the vocabulary beside it, or is damaged.", where, _FIX
        )
    return table, transcripts
