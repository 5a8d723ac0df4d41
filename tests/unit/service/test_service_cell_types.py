"""Clusters, marker genes and suggestions on a slide whose types are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import cell_types, type_suggestions
from spatialformer_core.service.kinds import resolve


@pytest.fixture(autouse=True)
def no_worker(monkeypatch, home):
    monkeypatch.setattr(cell_types, "ensure_worker", lambda home: True)
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))


def carried_out(services, **request):
    asked = cell_types.TypesRequest(slide_id="tiny", **request)
    job_id = cell_types.start_types(services, asked, "local")
    run_job(services.queue, job_id, resolve, silent)
    assert services.job(job_id).status == "done", services.job(job_id).error


@pytest.mark.filterwarnings("ignore")
def test_markers_of_a_grouping(services):
    assert cell_types.newest_types(services, "tiny", "cell_type") is None
    assert cell_types.newest_groupby(services, "tiny") is None
    carried_out(services, groupby="cell_type")
    found = cell_types.newest_types(services, "tiny", "cell_type", "local")
    # MARK has three copies in every cell of type A and none elsewhere.
    best = found.markers.groupby("group").first()
    assert best.loc["A", "gene"] == "MARK"
    assert best.loc["A", ["share_in", "share_rest"]].tolist() == [1.0, 0.0]
    # 3 of 23 counts, counts per 100, log(1 + x).
    assert found.profile.loc["A", "MARK"] == pytest.approx(np.log1p(300 / 23), rel=1e-5)
    assert found.profile.loc["B", "MARK"] == 0
    assert best.loc["A", "mean"] == pytest.approx(np.log1p(300 / 23), rel=1e-5)
    assert services.slide("tiny").group_keys == ("cell_type",)
    assert cell_types.newest_groupby(services, "tiny") == "cell_type"


@pytest.mark.filterwarnings("ignore")
def test_clusters_become_a_grouping_and_find_the_type(services):
    carried_out(services, resolution=0.3, neighbours=10)
    slide = services.slide("tiny")
    (key,) = set(slide.group_keys) - {"cell_type"}
    assert key == "leiden_0.3"
    codes, truth = np.asarray(slide.group(key).codes), np.asarray(slide.group("cell_type").codes)
    passes = np.asarray(slide.passes_qc)
    assert (codes[~passes] == -1).all()
    # A differs from B and C by MARK; B and C have equal counts.
    of_a = set(codes[passes & (truth == 0)])
    assert not of_a & set(codes[passes & (truth > 0)])
    found = cell_types.newest_types(services, "tiny", key)
    assert found.facts["is_new"]
    assert cell_types.newest_groupby(services, "tiny") == key
    assert found.facts["groups"] == len(slide.group(key).categories)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stage", ["Clustering", "Ranking the genes", "Checking the slide"])
def test_a_cancelled_clustering_leaves_no_clusters(services, tmp_path, stage):
    said = []
    request = cell_types.TypesRequest(slide_id="tiny", resolution=0.3, neighbours=10)
    with pytest.raises(Cancelled):
        cell_types.run_types_job(
            request.model_dump(mode="json"),
            tmp_path,
            lambda done, total, message: said.append(message),
            lambda: stage in said,
        )
    assert stage in said
    assert "Done" not in said
    assert services.slide("tiny").group_keys == ("cell_type",)


def view(profile):
    return cell_types.TypesView(pd.DataFrame(), profile, {})


def test_suggestions_are_mean_z_of_the_markers():
    profile = pd.DataFrame(
        [[4.0, 0.0, 1.0], [0.0, 2.0, 1.0]], index=["0", "1"], columns=["CD3E", "MS4A1", "ACTB"]
    )
    text = "gene,type\ncd3e,T cell\nCD3D,T cell\nMS4A1,B cell\nACTB,B cell\n"
    table, unknown = type_suggestions.suggest_types(view(profile), text)
    assert unknown == ["CD3D"]
    assert table["suggestion"].tolist() == ["T cell", "B cell"]
    # z of CD3E is +-1; of MS4A1 +-1; ACTB does not vary: (1 + 0) / 2.
    assert table["score"].tolist() == [1.0, 0.5]
    assert table["score_second"].tolist() == [-0.5, -1.0]
    same = profile.assign(CD3E=1.0)
    table, _ = type_suggestions.suggest_types(view(same), "type,gene\nT cell,CD3E\n")
    assert table["suggestion"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns type and gene"),
        ("a,b\n1,2\n", "columns type and gene"),
        ("type,gene\nT cell,XYZ\n", "None of the marker genes"),
    ],
)
def test_a_table_that_says_nothing_is_refused(text, said):
    profile = pd.DataFrame([[1.0], [2.0]], index=["0", "1"], columns=["CD3E"])
    with pytest.raises(SpatialFormerError, match=said):
        type_suggestions.suggest_types(view(profile), text)


def test_an_unknown_grouping_is_refused_before_it_is_queued(services):
    request = cell_types.TypesRequest(slide_id="tiny", groupby="nothing")
    with pytest.raises(SpatialFormerError, match="no grouping"):
        cell_types.start_types(services, request, "local")
    assert services.jobs() == []
