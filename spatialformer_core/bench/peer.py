"""Times of the published package itself, run in an environment of its own.

Only its tokeniser can be timed as it is: its co-occurrence room fails to import, its pair loader
opens a folder of its author's cluster.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import FloatArray
from spatialformer_core.errors import SpatialFormerError

_SECONDS = 900

# Words of condition, tissue and assay are only looked up; the genes' ids follow them.
_PROGRAM = """
import json, sys, time, pathlib
import numpy as np
from spatialformer.tools.get_embeddings import GeneTokenizer
folder = pathlib.Path(sys.argv[1])
dense = np.load(folder / "dense.npy")
genes = np.array(json.loads((folder / "genes.json").read_text()))
medians = json.loads((folder / "medians.json").read_text())
tokenizer = GeneTokenizer(str(folder / "vocabulary.json"), "single", "a", "b", "c")
tokenizer.genes, tokenizer.gene_median_dict = genes, medians
best = float("inf")
for _ in range(3):
    start = time.process_time()
    for row in dense:
        tokenizer.single_cell(row)
    best = min(best, time.process_time() - start)
print(json.dumps({"seconds_per_cell": best / len(dense)}))
"""


def tokenise_seconds(
    python: Path, dense: FloatArray, genes: tuple[str, ...], medians: FloatArray
) -> float:
    """Return the CPU seconds per cell of the published tokeniser.

    Parameters
    ----------
    python
        Interpreter of an environment with ``spatialformer==0.1.8``.
    dense
        Raw counts, shape ``(n, genes)``.
    medians
        Of the genes, shape ``(genes,)``.

    Raises
    ------
    SpatialFormerError
        If the package cannot be run there.
    """
    with tempfile.TemporaryDirectory(prefix="spatialformer-peer-") as name:
        folder = Path(name)
        with files.atomic_write(folder / "dense.npy") as stream:
            np.save(stream, dense)
        files.write_json(folder / "genes.json", list(genes))
        words = ["<PAD>", "<CLS>", "a", "b", "c", "<SEP>", *genes]
        files.write_json(folder / "vocabulary.json", {word: i for i, word in enumerate(words)})
        files.write_json(
            folder / "medians.json",
            {gene: float(value) for gene, value in zip(genes, medians, strict=True)},
        )
        try:
            done = subprocess.run(
                [str(python), "-c", _PROGRAM, str(folder)],
                capture_output=True,
                check=True,
                text=True,
                timeout=_SECONDS,
            )
            return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds_per_cell"])
        except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
            raise SpatialFormerError(
                f"The published package could not be timed: {type(error).__name__}.",
                where=str(python),
                fix="Give the Python of an environment with `spatialformer==0.1.8` and what it "
                "imports.",
            ) from error
