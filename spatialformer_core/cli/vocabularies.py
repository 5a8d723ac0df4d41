"""Verb of the vocabularies: ``vocabulary coverage``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spatialformer_core.cli.output import AsJson, emit_json, say, table

_NAMED = 20


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    verbs = typer.Typer(help="What a vocabulary knows of a slide's genes.")
    verbs.command("coverage")(coverage)
    app.add_typer(verbs, name="vocabulary", no_args_is_help=True)


def coverage(
    slide_id: str,
    *,
    vocabulary: Annotated[
        str, typer.Option(help="published, a checkpoint, or a vocabulary.json.")
    ] = "published",
    ensembl: Annotated[
        str, typer.Option(help="shipped, none, or a table symbol,ensembl.")
    ] = "shipped",
    aliases: Annotated[
        Path | None, typer.Option(help="Table previous,approved, or HGNC's complete set.")
    ] = None,
    ignore_case: Annotated[bool, typer.Option(help="Cd3e is CD3E (mouse, human).")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which of a slide's genes a vocabulary knows, by what name, and their counts."""
    from spatialformer_core.service import open_services
    from spatialformer_core.service.vocabularies import find_vocabulary, slide_coverage
    from spatialformer_core.vocabulary import SHIPPED_ENSEMBL, read_gene_names

    services = open_services()
    paths = {"shipped": SHIPPED_ENSEMBL, "none": None}
    path = paths[ensembl] if ensembl in paths else Path(ensembl)
    names = read_gene_names(path, aliases, ignore_case=ignore_case)
    found = find_vocabulary(services.home, vocabulary)
    report = slide_coverage(services.slide(slide_id), found, names)
    if as_json:
        emit_json({"slide_id": slide_id, "vocabulary": vocabulary, **report.to_json()})
        return
    known = f"{report.fraction:.1%} of {report.n_genes:,} genes"
    say(f"{slide_id} in {vocabulary}: {known}, {report.counts_fraction:.1%} of their counts")
    shares = report.count_shares
    rows = [(how, len(genes), f"{shares[how]:.2%}") for how, genes in report.genes.items()]
    table(("recognised by", "genes", "counts"), rows)
    for title, listed in (("unknown", report.genes["unknown"]), ("summed", report.merged)):
        if listed:
            more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
            say(f"{title}: {', '.join(listed[:_NAMED])}{more}")
