"""What pages do with embeddings and co-localisations: queue them, and read what came of it."""

from __future__ import annotations

from spatialformer_core.jobs import ensure_worker
from spatialformer_core.service.colocalise import (
    ColocalisationView,
    ColocaliseRequest,
    colocalisation_result,
)
from spatialformer_core.service.embed import EmbeddingView, EmbedRequest, embedding_result
from spatialformer_core.service.facade import Services
from spatialformer_core.service.rois import check_regions

EMBED, COLOCALISE = "embed", "colocalise"


def submit(services: Services, request: EmbedRequest | ColocaliseRequest, owner: str) -> str:
    """Queue an embedding or a co-localisation and return the job id.

    Raises
    ------
    SpatialFormerError
        If it names a region that the owner does not see.
    """
    kind = EMBED if isinstance(request, EmbedRequest) else COLOCALISE
    if isinstance(request, ColocaliseRequest) and request.slide_id is not None:
        check_regions(services, [request.slide_id], request.roi_ids, owner)
    job_id = services.queue.submit(kind, request.model_dump(mode="json"), owner)
    ensure_worker(services.home)
    return job_id


def embedding(services: Services, job_id: str, owner: str | None = None) -> EmbeddingView:
    """Return map, groups, vectors and facts of a finished embedding.

    Raises
    ------
    SpatialFormerError
        If the job is not done or is no embedding.
    """
    return embedding_result(services.queue.result(job_id, owner, EMBED))


def colocalisation(services: Services, job_id: str, owner: str | None = None) -> ColocalisationView:
    """Return tables, single neighbours and facts of a finished co-localisation.

    Raises
    ------
    SpatialFormerError
        If the job is not done or is no co-localisation.
    """
    return colocalisation_result(services.queue.result(job_id, owner, COLOCALISE))
