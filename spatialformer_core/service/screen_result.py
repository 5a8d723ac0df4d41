"""What is added to a screen: known pairs, gene sets, other checkpoints, liana, figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spatialformer_core import files
from spatialformer_core.perturbation import ScreenRequest, ScreenResult, run_screen
from spatialformer_core.perturbation.enrichment import GeneSets, read_gmt
from spatialformer_core.perturbation.interpret import compare_checkpoints, compare_with_known
from spatialformer_core.perturbation.ligand_receptor import LigandReceptors, read_ligand_receptors
from spatialformer_core.progress import Cancel, Progress, silent, staged
from spatialformer_core.service.checkpoints import find_checkpoint
from spatialformer_core.service.references import resolve_reference
from spatialformer_core.service.screen_liana import with_liana

if TYPE_CHECKING:
    import pandas as pd

    from spatialformer_core.slides import SlideStore
    from spatialformer_core.vocabulary import Vocabulary

AGREEMENT = "agreement.parquet"
FIGURES = "figures"


@dataclass(frozen=True, slots=True)
class References:
    """Tables from outside that a result is compared with; read before anything is computed."""

    known: LigandReceptors | None
    libraries: tuple[GeneSets, ...]


def read_references(request: ScreenRequest, home: Path) -> References:
    """Read the ligand-receptor table and the gene sets that a request names by path or id.

    Raises
    ------
    SpatialFormerError
        If one of them cannot be read.
    """
    source = request.ligand_receptor
    return References(
        None if source is None else read_ligand_receptors(resolve_reference(home, source)),
        tuple(read_gmt(Path(resolve_reference(home, path))) for path in request.gene_set_files),
    )


def complete(
    result: ScreenResult,
    store: SlideStore,
    request: ScreenRequest,
    references: References,
    *,
    vocabulary: Vocabulary,
    progress: Progress = silent,
    cancel: Cancel,
) -> tuple[ScreenResult, pd.DataFrame | None]:
    """Return the result beside known pairs, gene sets, liana's scores and other checkpoints.

    ``vocabulary`` is that of the checkpoint. The other checkpoints carry out the same screen, one
    after the other in this process.

    Returns
    -------
    result, agreement
        ``agreement`` has one row per checkpoint and gene pair (``checkpoint gene_left gene_right
        d_diff epsilon q epsilon_q``); None without other checkpoints.
    """
    result = compare_with_known(result, request, references.known, references.libraries)
    result = with_liana(result, store, request, vocabulary, cancel)
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


def read_agreement(folder: Path) -> pd.DataFrame | None:
    """Return what `write_agreement` wrote, None if nothing."""
    import pandas as pd

    path = folder / AGREEMENT
    return pd.read_parquet(path) if path.is_file() else None


def write_figures(result: ScreenResult, out: Path) -> None:
    """Draw a screen into ``figures/`` of its folder as SVG, see `pl.screen_figures`.

    A screen without gene pairs has none.
    """
    from spatialformer_core import pl

    if not len(result.table):
        return
    for name, figure in pl.screen_figures(result).items():
        pl.save(figure, out / FIGURES / f"{name}.svg")
