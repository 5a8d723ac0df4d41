"""Everything that pages and command line may ask for, in one object per home folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from spatialformer_core.arrays import BoolArray
from spatialformer_core.config import QcThresholds, SampleMetadata, validate
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import Job, JobQueue, ensure_worker
from spatialformer_core.service import checkpoints, results, rois, sources, tissue
from spatialformer_core.service.checkpoints import CheckpointInfo
from spatialformer_core.service.results import ResultFile
from spatialformer_core.service.settings import AppConfig, load_config, open_home, source_roots
from spatialformer_core.service.sources import SourceEntry
from spatialformer_core.service.tissue import QcReport

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry.base import BaseGeometry

    from spatialformer_core.perturbation import ScreenEstimate, ScreenRequest
    from spatialformer_core.service.gene_pair_view import GenePairDesk
    from spatialformer_core.service.ingest import IngestExtras
    from spatialformer_core.service.panel import GeneAnswer
    from spatialformer_core.service.pull import Official
    from spatialformer_core.service.screen import ScreenView
    from spatialformer_core.service.spillover import SpilloverView
    from spatialformer_core.slides import Roi, Slide, SlideMeta, SlideStore
    from spatialformer_core.vocabulary import Coverage, CoverageReport


class Services:
    """The use-cases of one home folder. Cheap to make; safe to share between threads.

    Parameters
    ----------
    home
        The home folder.

    Raises
    ------
    SpatialFormerError
        If its ``config.yaml`` is invalid.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config: AppConfig = load_config(home)
        self.queue = JobQueue(home)

    @cached_property
    def store(self) -> SlideStore:
        """The slide store of the home folder."""
        from spatialformer_core.slides import SlideStore

        return SlideStore(self.home)

    # ---------------------------------------------------------------- slides

    def slides(self) -> list[SlideMeta]:
        """Return the slides of the store."""
        return self.store.list()

    def slide(self, slide_id: str) -> Slide:
        """Open one slide.

        Raises
        ------
        SpatialFormerError
            If there is none of that id.
        """
        return self.store.open(slide_id)

    def sources(self) -> list[SourceEntry]:
        """Return what lies below the allow-listed folders and may be registered."""
        return sources.list_sources(self._roots, self.config.limits.max_sources)

    def register(
        self,
        source_id: str,
        name: str,
        sample: SampleMetadata,
        qc: QcThresholds,
        owner: str,
        **extras: Unpack[IngestExtras],
    ) -> str:
        """Queue the ingest of a source and return the job id.

        Parameters
        ----------
        extras
            Scale of a source that keeps pixels; H&E, alignment and labels by id.

        Raises
        ------
        SpatialFormerError
            If the source or a file is gone, or a slide of that name exists.
        """
        from spatialformer_core.service.ingest import IngestParams, ingest_files

        values = {"source_id": source_id, "name": name, "sample": sample, "qc": qc, **extras}
        request = validate(IngestParams, values, "slide")
        sources.source_path(self._roots, source_id)
        ingest_files(self._roots, request)
        self._check_new_name(name)
        return self._submit("ingest", request.model_dump(mode="json"), owner)

    def attachable(self) -> list[SourceEntry]:
        """Return images and tables below the allow-listed folders that may go with a slide."""
        return sources.list_files(self._roots, self.config.limits.max_sources)

    def find_genes(self, slide_id: str, text: str) -> list[GeneAnswer]:
        """Return whether genes (any separators) are on a slide's panel, and under which name."""
        from spatialformer_core.service import panel

        return panel.find_genes(self.slide(slide_id), text)

    def start_spillover(self, slide_id: str, groupby: str, owner: str) -> str:
        """Queue the measurement of a slide's spillover and return the job id.

        Raises
        ------
        SpatialFormerError
            If there is no such slide or grouping, or the slide has no outlines.
        """
        slide = self.slide(slide_id)
        slide.group(groupby)
        if not slide.meta.has_polygons:
            raise SpatialFormerError(
                "The slide has no cell outlines, so nothing tells spillover from contact.",
                where=slide_id,
            )
        return self._submit("spillover", {"slide_id": slide_id, "groupby": groupby}, owner)

    def spillover(self, slide_id: str, groupby: str) -> SpilloverView | None:
        """Return what was measured for a grouping since the slide was read, None if nothing."""
        from spatialformer_core.service import spillover

        return spillover.read_spillover(self.slide(slide_id), groupby)

    def qc_report(self, slide_id: str) -> QcReport:
        """Return what quality control did, with the retention of each cell type."""
        return tissue.qc_report(self.slide(slide_id).meta)

    def composition(self, slide_id: str, roi: BaseGeometry | None, groupby: str) -> pd.DataFrame:
        """Count the cells of each group (``group cells share kept``).

        Parameters
        ----------
        slide_id
            The slide.
        roi
            A polygon in um, or None for the whole slide.
        groupby
            Key of the grouping.
        """
        slide = self.slide(slide_id)
        return tissue.composition(slide, self._inside(slide, roi), groupby)

    def expression(
        self, slide_id: str, roi: BaseGeometry | None, gene: str, groupby: str
    ) -> pd.DataFrame:
        """Summarise one gene per group (``group cells mean_count share_expressing``)."""
        slide = self.slide(slide_id)
        return tissue.expression(slide, self._inside(slide, roi), gene, groupby)

    def cells(self, slide_id: str, roi: BaseGeometry | None) -> pd.DataFrame:
        """List the cells of a region (id, position in um, size, QC, groups) for download."""
        slide = self.slide(slide_id)
        return tissue.cells(slide, self._inside(slide, roi))

    def _check_new_name(self, name: str) -> None:
        from spatialformer_core.slides import slug

        # Told before the job is queued; ingest checks again, for another may come first.
        if self.store.exists(slug(name)):
            raise SpatialFormerError(
                f"There is a slide {slug(name)!r} already.", fix="Choose another name."
            )

    # ------------------------------------------------------- regions of interest

    def rois(self, slide_id: str, owner: str | None = None) -> list[Roi]:
        """Return the saved regions of a slide (with ``owner``, theirs and everybody's)."""
        return rois.visible_rois(self.slide(slide_id), self.region_owner(owner))

    def save_roi(self, slide_id: str, geojson: str | dict[str, Any], name: str, owner: str) -> Roi:
        """Save one drawn region (GeoJSON in um) under a name that is new to its owner.

        Raises
        ------
        SpatialFormerError
            If the region is invalid or the name is taken.
        """
        slide, limits = self.slide(slide_id), self.config.limits
        return rois.save_roi(slide, geojson, name, limits, self.region_owner(owner))

    def reshape_roi(
        self, slide_id: str, roi_id: str, geojson: str | dict[str, Any], owner: str | None = None
    ) -> Roi:
        """Give a saved region another outline (GeoJSON in um)."""
        slide, limits = self.slide(slide_id), self.config.limits
        return rois.reshape_roi(slide, roi_id, geojson, limits, self.region_owner(owner))

    def delete_roi(self, slide_id: str, roi_id: str, owner: str | None = None) -> None:
        """Delete a saved region."""
        slide = self.slide(slide_id)
        slide.delete_roi(rois.find_roi(slide, roi_id, self.region_owner(owner)).roi_id)

    def rename_roi(self, slide_id: str, roi_id: str, name: str, owner: str | None = None) -> Roi:
        """Give a saved region another name, unless that is taken."""
        return rois.rename_roi(self.slide(slide_id), roi_id, name, self.region_owner(owner))

    def import_rois(self, slide_id: str, text: str, owner: str | None = None) -> list[Roi]:
        """Add every region of a GeoJSON text, or none of them."""
        slide, limits = self.slide(slide_id), self.config.limits
        return rois.import_rois(slide, text, limits, self.region_owner(owner))

    def export_rois(self, slide_id: str, owner: str | None = None) -> str:
        """Return saved regions as GeoJSON text, coordinates in um."""
        return rois.export_rois(self.slide(slide_id), self.region_owner(owner))

    def region_owner(self, owner: str | None) -> str | None:
        """Return under whose name a user's regions are kept; None: everybody's.

        What is drawn where nobody logs in belongs to the slide and stays visible afterwards.
        """
        return None if owner == self.config.default_owner else owner

    def _inside(self, slide: Slide, roi: BaseGeometry | None) -> BoolArray:
        from spatialformer_core.slides import select_cells

        if roi is None:
            return np.ones(slide.meta.n_cells, np.bool_)
        return select_cells(slide.xy_um, roi)

    # ------------------------------------------------------------- checkpoints

    def checkpoints(self) -> list[CheckpointInfo]:
        """Return the shipped checkpoints and those of the home folder."""
        return checkpoints.list_checkpoints(self.home)

    def checkpoint(self, checkpoint_id: str) -> CheckpointInfo:
        """Return one checkpoint's facts."""
        return checkpoints.show_checkpoint(self.home, checkpoint_id)

    def coverage(self, slide_id: str, checkpoint_id: str) -> Coverage:
        """Return how much of a slide's panel a checkpoint knows."""
        from spatialformer_core.service.vocabularies import known_genes
        from spatialformer_core.vocabulary import Vocabulary

        folder = checkpoints.checkpoint_folder(self.home, checkpoint_id)
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        return known_genes(self.slide(slide_id), vocabulary)

    def coverage_report(
        self, slide_id: str, checkpoint_id: str, *, ignore_case: bool = False
    ) -> CoverageReport:
        """Return by what name a checkpoint knows each gene of a slide, and their counts.

        Parameters
        ----------
        ignore_case
            Whether ``Cd3e`` (mouse) counts as ``CD3E`` (human).
        """
        from spatialformer_core.service import vocabularies

        known = vocabularies.find_vocabulary(self.home, checkpoint_id)
        names = vocabularies.shipped_names(ignore_case=ignore_case)
        return vocabularies.slide_coverage(self.slide(slide_id), known, names)

    def official(self) -> dict[str, Official]:
        """Return the official checkpoints that ``models pull`` knows, by name."""
        from spatialformer_core.service.pull import OFFICIAL

        return dict(OFFICIAL)

    # ----------------------------------------------------------------- screens

    def estimate_screen(self, request: ScreenRequest, owner: str | None = None) -> ScreenEstimate:
        """Return pairs, units, panel coverage and time of a screen, before it is started."""
        from spatialformer_core.service import screen

        self._check_screen(request, owner)
        return screen.estimate_screen(self.store, request)

    def submit_screen(self, request: ScreenRequest, owner: str) -> str:
        """Queue a screen and return the job id."""
        self._check_screen(request, owner)
        return self._submit("screen", request.model_dump(mode="json"), owner)

    def _check_screen(self, request: ScreenRequest, owner: str | None) -> None:
        named = (*request.roi_ids, *request.versus_roi_ids)
        rois.check_regions(self, request.slide_ids, named, owner)

    def screen_result(self, job_id: str, owner: str | None = None) -> ScreenView:
        """Return table and facts of a finished screen.

        Raises
        ------
        SpatialFormerError
            If the job is not done or is no screen.
        """
        from spatialformer_core.service import screen

        return screen.screen_result(self.queue.result(job_id, owner, "screen"))

    @property
    def gene_pairs(self) -> GenePairDesk:
        """Use-cases of comparisons of gene pairs."""
        from spatialformer_core.service.gene_pair_view import GenePairDesk

        return GenePairDesk(self.store, self.queue, self._submit)

    # -------------------------------------------------------------------- jobs

    def job(self, job_id: str, owner: str | None = None) -> Job:
        """Return one job (with ``owner``, only if it is theirs).

        A waiting job whose worker has died gets a new worker here, so that a page that shows it
        keeps it alive.
        """
        job = self.queue.get(job_id, owner)
        if not job.is_ended:
            ensure_worker(self.home)
        return job

    def jobs(self, owner: str | None = None) -> list[Job]:
        """Return the newest jobs first, of one owner or of all."""
        return self.queue.list(owner)

    def position(self, job_id: str) -> int | None:
        """Return how many jobs run before a waiting one, None if it does not wait."""
        return self.queue.position(job_id)

    def cancel(self, job_id: str, owner: str | None = None) -> str:
        """Cancel a job and return its status; cancelling twice does no harm."""
        return self.queue.cancel(job_id, owner)

    def log(self, job_id: str, owner: str | None = None) -> str:
        """Return the end of a job's log (64 kB at most), the server's folders not told."""
        text = self.queue.log(job_id, owner)
        return results.without_paths(text, self.home, self.config.slide_roots)

    def result_files(self, job_id: str, owner: str | None = None) -> list[ResultFile]:
        """Return name and size of the files of a job that is done.

        Raises
        ------
        SpatialFormerError
            If it is not done.
        """
        return results.result_files(self.queue.result(job_id, owner))

    def result_file(self, job_id: str, name: str, owner: str | None = None) -> bytes:
        """Return the content of one file of a job that is done."""
        return results.read_result_file(self.queue.result(job_id, owner), name)

    def _submit(self, kind: str, params: dict[str, Any], owner: str) -> str:
        job_id = self.queue.submit(kind, params, owner)
        ensure_worker(self.home)
        return job_id

    @property
    def _roots(self) -> tuple[Path, ...]:
        return source_roots(self.home, self.config)


def open_services(home: Path | None = None) -> Services:
    """Return the services of a home folder (``$SPATIALFORMER_HOME`` without one).

    Raises
    ------
    SpatialFormerError
        If its ``config.yaml`` is invalid.
    """
    return Services(open_home(home))
