"""Is my gene on the panel? By symbol, Ensembl id, or whatever letter case."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service.vocabularies import shipped_names

if TYPE_CHECKING:
    from spatialformer_core.slides import Slide
    from spatialformer_core.vocabulary import GeneNames

MAX_ASKED = 500
_SIMILAR = 4


@dataclass(frozen=True, slots=True)
class GeneAnswer:
    """What became of one name that was asked for.

    Attributes
    ----------
    asked
        The name as it was given.
    gene
        The panel's name of it, None where it is not on the panel.
    recognised
        ``exact ensembl alias case unknown``.
    transcripts, cells
        Its counts in cells that pass QC, and how many of these have any.
    similar
        Names on the panel that look like an unknown one.
    """

    asked: str
    gene: str | None
    recognised: str
    transcripts: int = 0
    cells: int = 0
    similar: tuple[str, ...] = ()


def find_genes(slide: Slide, text: str) -> list[GeneAnswer]:
    """Look names up on a slide's panel.

    Parameters
    ----------
    text
        Names, separated by whatever is no part of a name (commas, blanks, lines).

    Raises
    ------
    SpatialFormerError
        If more than `MAX_ASKED` names are given.
    """
    from spatialformer_core.vocabulary import map_genes

    asked = list(dict.fromkeys(re.findall(r"[^\s,;\"']+", text)))
    if len(asked) > MAX_ASKED:
        raise SpatialFormerError(
            f"{len(asked):,} names are asked for; {MAX_ASKED} are looked up at once.",
            fix="Give fewer of them.",
        )
    found = map_genes(asked, slide.genes, _names(slide))
    return [
        _answer(slide, name, found.names[place], how)
        for name, place, how in zip(asked, found.column, found.how, strict=True)
    ]


def _names(slide: Slide) -> GeneNames:
    """Return what is known of other names: the slide's own ids before those that ship."""
    names = shipped_names(ignore_case=True)
    ids = zip(slide.gene_ids or (), slide.genes, strict=False)
    own = {gene_id: gene for gene_id, gene in ids if gene_id}
    return replace(names, ensembl={**names.ensembl, **own})


def _answer(slide: Slide, asked: str, gene: str, how: str) -> GeneAnswer:
    if how == "unknown":
        folded = {name.casefold(): name for name in slide.genes}
        close = difflib.get_close_matches(asked.casefold(), list(folded), _SIMILAR, 0.6)
        return GeneAnswer(asked, None, how, similar=tuple(folded[name] for name in close))
    counts = np.asarray(slide.gene_column(gene))[np.asarray(slide.passes_qc)]
    return GeneAnswer(asked, gene, how, int(counts.sum()), int((counts > 0).sum()))
