"""What is added to a screen: known pairs, gene sets, other checkpoints, figures, examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import ScreenRequest, ScreenResult, read_result, run_screen
from spatialformer_core.perturbation.enrichment import GeneSets, read_gmt
from spatialformer_core.perturbation.interpret import compare_checkpoints, compare_with_known
from spatialformer_core.perturbation.ligand_receptor import LigandReceptors, read_ligand_receptors
from spatialformer_core.progress import Cancel, Progress, silent, staged
from spatialformer_core.service.checkpoints import find_checkpoint
from spatialformer_core.service.screen_liana import with_liana

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import Slide, SlideStore

AGREEMENT = "agreement.parquet"
FIGURES = "figures"
_MAX_EXAMPLES = 100


@dataclass(frozen=True, slots=True)
class References:
    """Tables from outside that a result is compared with; read before anything is computed."""

    known: LigandReceptors | None
    libraries: tuple[GeneSets, ...]


def read_references(request: ScreenRequest) -> References:
    """Read the ligand-receptor table and the gene sets that a request names.

    Raises
    ------
    SpatialFormerError
        If one of them cannot be read.
    """
    source = request.ligand_receptor
    return References(
        None if source is None else read_ligand_receptors(source),
        tuple(read_gmt(Path(path)) for path in request.gene_set_files),
    )


def complete(
    result: ScreenResult,
    store: SlideStore,
    request: ScreenRequest,
    references: References,
    *,
    progress: Progress = silent,
    cancel: Cancel,
) -> tuple[ScreenResult, pd.DataFrame | None]:
    """Return the result beside known pairs, gene sets, liana's scores and other checkpoints.

    The other checkpoints carry out the same screen, one after the other in this process.

    Returns
    -------
    result, agreement
        ``agreement`` has one row per checkpoint and gene pair (``checkpoint gene_left gene_right
        d_diff epsilon q epsilon_q``); None without other checkpoints.
    """
    result = compare_with_known(result, request, references.known, references.libraries)
    result = with_liana(result, store, request, cancel)
    plain = request.model_copy(update={"null_runs": 0})
    null_id = request.null_checkpoint_id
    n_runs = len(request.agreement_ids) + (null_id is not None)
    parts = iter([staged(progress, k / n_runs, (k + 1) / n_runs) for k in range(n_runs)])
    others = {
        name: _with_checkpoint(store, plain, name, next(parts), cancel)
        for name in request.agreement_ids
    }
    if null_id is not None:
        null = _with_checkpoint(store, plain, null_id, next(parts), cancel)
        result.info["null_checkpoint"] = {
            "checkpoint": null.info["checkpoint"],
            "gate": null.info["gate"],
            "p_values": null.info["p_values"],
            "significant": null.info["significant"],
        }
    if not others:
        return result, None
    joined = compare_checkpoints(result, others)
    return joined, _long({result.info["checkpoint"]["name"]: result, **others})


def _with_checkpoint(
    store: SlideStore, request: ScreenRequest, name: str, progress: Progress, cancel: Cancel
) -> ScreenResult:
    from spatialformer_core.service.screen_work import prepare

    folder = find_checkpoint(store.root.parent, name)
    own = request.model_copy(update={"checkpoint_id": folder.name})
    ready = prepare(store, own, folder, cancel)
    return run_screen(
        ready.tissues, ready.scorer, ready.facts, own, progress=progress, cancel=cancel
    )


def _long(results: dict[str, ScreenResult]) -> pd.DataFrame:
    import pandas as pd

    columns = ["gene_left", "gene_right", "d_diff", "epsilon", "q", "epsilon_q", "scope"]
    parts = [result.table[columns].assign(checkpoint=name) for name, result in results.items()]
    return pd.concat(parts, ignore_index=True)[["checkpoint", *columns]]


def write_agreement(agreement: pd.DataFrame | None, out: Path) -> None:
    """Write the table of all checkpoints into the folder of a screen, if there is one."""
    if agreement is not None:
        with files.atomic_write(out / AGREEMENT) as stream:
            agreement.to_parquet(stream, index=False)


def write_figures(result: ScreenResult, out: Path) -> None:
    """Draw a screen into ``figures/`` of its folder as SVG, see `pl.screen_figures`."""
    from spatialformer_core import pl

    for name, figure in pl.screen_figures(result).items():
        pl.save(figure, out / FIGURES / f"{name}.svg")


@dataclass(frozen=True, slots=True)
class ExamplePair:
    """A near cell pair that carries both genes, with their transcripts.

    Attributes
    ----------
    slide_id, unit
        Where it lies.
    cell_left, cell_right
        Row numbers of the two cells.
    x_um, y_um
        Midpoint.
    left_um, right_um
        Transcripts of the left gene in the left cell, and of the right gene in the right cell,
        positions of shape ``(n, 3)``; None on a slide without transcripts.
    """

    slide_id: str
    unit: str
    cell_left: int
    cell_right: int
    x_um: float
    y_um: float
    left_um: Any
    right_um: Any


def example_pairs(
    store: SlideStore, folder: Path, genes: tuple[str, str], n: int = 6
) -> list[ExamplePair]:
    """Return near cell pairs of a finished screen that carry both genes, most copies first.

    Parameters
    ----------
    store
        Holds the slides.
    folder
        A result of a screen.
    genes
        Left and right gene, as in a row of its table.
    n
        How many, at most 100.

    Raises
    ------
    SpatialFormerError
        If the folder holds no screen, or a slide has been ingested anew since.
    """
    result = read_result(folder)
    if result.pairs is None:
        raise SpatialFormerError("This screen was made before cell pairs were kept.", str(folder))
    created = {entry["slide_id"]: entry["created"] for entry in result.info["slides"]}
    near = result.pairs[result.pairs["side"] == "near"]
    same_type = ScreenRequest(**result.info["request"]).same_type
    found: list[tuple[int, ExamplePair]] = []
    for slide_id, rows in near.groupby("slide_id", observed=True):
        slide = store.open(str(slide_id))
        if slide.meta.created != created[slide.meta.slide_id]:
            raise SpatialFormerError(
                "The slide was ingested anew after the screen, so its cells are others.",
                where=slide.meta.slide_id,
                fix="Run the screen again.",
            )
        found += _of_slide(slide, rows, genes, both_ways=same_type)
    found.sort(key=lambda pair: (-pair[0], pair[1].slide_id, pair[1].cell_left))
    return [pair for _, pair in found[: min(n, _MAX_EXAMPLES)]]


def _of_slide(
    slide: Slide, rows: pd.DataFrame, genes: tuple[str, str], *, both_ways: bool
) -> list[tuple[int, ExamplePair]]:
    """Return a slide's pairs with the lesser of their two copy numbers."""
    column = {gene: k for k, gene in enumerate(slide.genes)}
    if not set(genes) <= column.keys():
        return []
    # A column at a time: the matrix of a large slide is not copied.
    left, right = (np.asarray(slide.counts[:, [column[g]]].todense()).ravel() for g in genes)
    one, other = rows["cell_left"].to_numpy(), rows["cell_right"].to_numpy()
    found = _best(slide, rows, (one, other), np.minimum(left[one], right[other]), genes)
    if both_ways:
        found += _best(slide, rows, (other, one), np.minimum(left[other], right[one]), genes)
    return found


def _best(
    slide: Slide,
    rows: pd.DataFrame,
    cells: tuple[LongArray, LongArray],
    copies: Any,
    genes: Sequence[str],
) -> list[tuple[int, ExamplePair]]:
    order = np.argsort(-copies, kind="stable")[:_MAX_EXAMPLES]
    found = []
    for k in order[copies[order] > 0]:
        row = rows.iloc[int(k)]
        ends = (int(cells[0][k]), int(cells[1][k]))
        places = [_transcripts(slide, cell, gene) for cell, gene in zip(ends, genes, strict=True)]
        pair = ExamplePair(
            slide.meta.slide_id,
            str(row["unit"]),
            *ends,
            float(row["x_um"]),
            float(row["y_um"]),
            *places,
        )
        found.append((int(copies[k]), pair))
    return found


def _transcripts(slide: Slide, cell: int, gene: str) -> Any:
    if not slide.meta.has_transcripts:
        return None
    stored = slide.transcripts_by_cell()
    here = slice(int(stored.indptr[cell]), int(stored.indptr[cell + 1]))
    mine = np.asarray(stored.gene[here]) == slide.genes.index(gene)
    return np.asarray(stored.xyz_um[here])[mine]
