"""The page Embedding: without a slide, from form to map, one selection for both pictures."""

from __future__ import annotations

import io
import json
from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from pages.ui import embedding_maps, picked
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import run_job
from spatialformer_core.progress import silent
from spatialformer_core.service import embed_files, open_services
from spatialformer_core.service.embed import EmbedRequest
from spatialformer_core.service.embed_estimate import estimate_embedding
from spatialformer_core.service.embedding_view import (
    REST,
    label_codes,
    open_map,
    picked_on_map,
    recoded,
    selection_genes,
)
from spatialformer_core.service.kinds import resolve
from spatialformer_core.service.view import with_header

SQUARE = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]


def fake_map(vectors, rows, seed):
    """Stand in for UMAP, which takes a minute to load: cells on a line, alike if side by side."""
    from scipy import sparse

    from spatialformer_core.inference.embedding_map import EmbeddingMap

    place = np.stack([np.arange(len(rows)), np.zeros(len(rows))], 1).astype(np.float32)
    # Two chains: the first third of the cells and the others.
    cut = len(rows) // 3
    joined = np.delete(np.arange(len(rows) - 1), cut - 1)
    ones = np.ones(len(joined))
    shape = (len(rows), len(rows))
    upper = sparse.coo_matrix((ones, (joined, joined + 1)), shape=shape)
    return EmbeddingMap(rows, place, (upper + upper.T).tocoo())


@pytest.fixture(scope="module")
def home(make_home, run_now):
    """The small slide with a region, the untrained model, and one finished embedding."""
    from spatialformer_core.inference import embedding_map

    folder = make_home()
    services = open_services(folder)
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}}
    services.save_roi("small", {**feature, "properties": {}}, "Corner", "local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_map, "embedding_map", fake_map)
        run_now(services, "embed", ask(n_umap=1_200, n_niches=3, resolution=0.1))
    return folder


@pytest.fixture
def found(services):
    done = (job.id for job in services.jobs("local") if (job.kind, job.status) == ("embed", "done"))
    return open_map(services.slide("small"), next(done), "local")


@pytest.fixture
def page(open_page):
    return partial(open_page, "embedding", slide="small")


def ask(**more):
    values = {"slide_id": "small", "checkpoint_id": "untrained", "allow_simulated": True}
    return EmbedRequest.model_validate({**values, **more})


def test_from_form_to_job(services, page, metrics):
    at = page()
    assert not [b for b in at.button if b.label == "Embed"]
    at.checkbox(key="embedding-allow-simulated-untrained").check().run()
    at.checkbox(key="embedding-masked").check().run()
    assert metrics(at)["genes known"] == "100 %"
    next(b for b in at.button if b.label == "Embed").click().run()
    assert not at.error, at.error[0].value
    job = services.jobs("local")[0]
    services.cancel(job.id)
    assert job.kind == "embed"
    assert job.params["meta"] == "masked"
    assert job.params["n_niches"] == 8
    assert job.params["n_umap"] == 1_560  # the cells that pass QC


def test_the_estimate_refuses_what_the_job_would(services):
    estimate = estimate_embedding(services, ask(n_umap=500))
    assert (estimate.n_cells, estimate.n_map, estimate.coverage) == (1600, 500, 1.0)
    with pytest.raises(SpatialFormerError, match="two-tower"):
        crossed = ask(checkpoint_id="pancreas-cross-encoder", n_umap=500, n_niches=4)
        estimate_embedding(services, crossed)
    with pytest.raises(SpatialFormerError, match="knows 0% of the slide's genes"):
        estimate_embedding(services, ask(checkpoint_id="pancreas-two-tower", n_umap=500))


def test_every_cell_that_passes_has_a_cluster_and_a_niche(services, found):
    slide = services.slide("small")
    assert len(found.rows) == 1_200
    for name in ("cluster", "niche"):
        names, codes = label_codes(found, slide, name)
        np.testing.assert_array_equal(codes >= 0, np.asarray(slide.passes_qc))
        assert np.bincount(codes[codes >= 0]).min() > 0
        # The largest comes first.
        on_map = np.bincount(codes[found.rows], minlength=len(names))
        assert (np.diff(on_map) <= 0).all()
    sums = found.niches.groupby("niche")["share"].sum()
    np.testing.assert_allclose(sums, 1)
    assert found.niches.groupby("niche")["n_cells"].first().sum() == 1_200


def test_a_selection_shows_the_same_cells_everywhere(services, page, found, words, metrics):
    at = page(embedding=found.job_id)
    assert not at.error, at.error[0].value
    assert "Nothing is selected" in words(at)
    at.multiselect(key=f"embedding-pick-group:cell_type-small-{found.job_id}").set_value(
        ["T cell"]
    ).run()
    assert not at.error, at.error[0].value
    # Every third of 1,600 cells; of the last row none passes.
    _, types, _ = services_truth()
    assert metrics(at)["selected cells"] == f"{(types == 2).sum():,}"
    assert metrics(at)["on the map"] == f"{(types[found.rows] == 2).sum():,}"
    genes = next(f.value for f in at.dataframe if "log2_ratio" in f.value)
    assert len(genes) == 12
    labels = [b.label for b in at.get("download_button")]
    assert {"Cell ids (CSV)", "h5ad", "Facts"} <= set(labels)
    region = services.rois("small")[0].roi_id
    at.selectbox(key="embedding-region-small").set_value(region).run()
    assert metrics(at)["selected cells"] == "100"
    next(b for b in at.button if b.label == "Clear").click().run()
    assert "Nothing is selected" in words(at)


def services_truth():
    import sys

    return sys.modules["spatialformer_test_app_slide"].tissue()


def test_a_lasso_on_the_map_selects_its_cells(services, page, found, metrics):
    at = page(embedding=found.job_id)
    view_id = f"small-{found.job_id}-{embedding_maps.MAP}"
    # The cells lie on a line from 0 to 2,000: the first quarter of it.
    ring = [[-1, -5], [499, -5], [499, 5], [-1, 5]]
    event = {"kind": "roi", "polygon": ring, "seq": 1, "slide": view_id}
    at.session_state[embedding_maps.MAP] = {"event": event}
    at.run()
    assert not at.exception
    assert metrics(at)["selected cells"] == "300"
    assert metrics(at)["on the map"] == "300"
    ring = [[0, 0], [50, 0], [50, 50], [0, 50]]
    view_id = f"small-{found.job_id}-{embedding_maps.TISSUE}"
    event = {"kind": "roi", "polygon": ring, "seq": 2, "slide": view_id}
    at.session_state[embedding_maps.TISSUE] = {"event": event}
    at.run()
    assert metrics(at)["selected cells"] == "25"


def lassoed(ring):
    lasso = {"xref": "x", "yref": "y", "x": [x for x, _ in ring], "y": [y for _, y in ring]}
    return {"selection": {"points": [], "lasso": [lasso], "box": []}}


def test_without_webgl_the_server_draws_both_and_the_lasso_links_them(page, found, words, metrics):
    at = page(embedding=found.job_id)
    names = {
        kind: f"small-{found.job_id}-{kind}" for kind in (embedding_maps.MAP, embedding_maps.TISSUE)
    }
    event = {"kind": "no-webgl", "seq": 1, "slide": names[embedding_maps.MAP]}
    at.session_state[embedding_maps.MAP] = {"event": event}
    at.run()
    assert not at.exception
    assert "offers no WebGL, so the server draws the cells" in words(at)
    assert len(at.get("plotly_chart")) == 3  # two pictures and the niches
    # The same ring as in the viewer's test above.
    ring = [[-1, -5], [499, -5], [499, 5], [-1, 5]]
    at.session_state[f"picture-{names[embedding_maps.MAP]}"] = lassoed(ring)
    at.run()
    assert not at.exception
    assert not at.error
    assert metrics(at)["selected cells"] == "300"
    ring = [[0, 0], [50, 0], [50, 50], [0, 50]]
    at.session_state[f"picture-{names[embedding_maps.TISSUE]}"] = lassoed(ring)
    at.run()
    assert metrics(at)["selected cells"] == "25"
    next(b for b in at.button if b.label == "Clear").click().run()
    assert "Nothing is selected" in words(at)


def test_selected_cells_keep_their_colour_on_the_plain_tissue(services, open_page):
    at = open_page("tissue", slide="small")
    cells = np.arange(1600) < 20
    colour = f"pick:{picked.keep('local', 'small', cells)}/group/cell_type"
    at.session_state["_picked-small"] = (colour, cells, "groups")
    at.toggle(key="plain-picture").set_value(True).run()
    at.selectbox(key="colour-kind-small").set_value("Selected cells").run()
    assert not at.exception
    assert not at.error, at.error[0].value
    traces = json.loads(at.get("plotly_chart")[0].proto.spec)["data"]
    names = [trace.get("name") for trace in traces]
    assert REST in names


def test_other_colours(services, page, found):
    at = page(embedding=found.job_id)
    box = at.selectbox(key="embedding-colour-small")
    for kind in ("Embedding cluster", "Niche of expected neighbours", "Quality", "Plain", "Gene"):
        at.selectbox(key="embedding-colour-small").set_value(kind).run()
        assert not at.exception
        assert not at.error, at.error[0].value
    assert "Cell type or group" in box.options


def test_clusters_are_kept_as_a_grouping(services, page, found):
    at = page(embedding=found.job_id)
    next(t for t in at.text_input if t.label == "Name of the grouping").set_value("mine")
    next(b for b in at.button if b.label == "Save").click().run()
    assert not at.error, at.error[0].value
    job = services.jobs("local")[0]
    assert job.params["key"] == "mine"
    run_job(services.queue, job.id, resolve, silent)
    assert services.job(job.id).status == "done", services.job(job.id).error
    slide = open_services(services.home).slide("small")
    names, codes = label_codes(found, slide, "cluster")
    assert slide.group("mine").categories == tuple(names)
    np.testing.assert_array_equal(np.asarray(slide.group("mine").codes), codes)
    with pytest.raises(SpatialFormerError, match="has a grouping 'Mine' already"):
        embed_files.save_labels(services, found.job_id, "cluster", "Mine", "local")
    with pytest.raises(SpatialFormerError, match="no job"):
        embed_files.save_labels(services, found.job_id, "cluster", "other", "bob")


def test_files_hold_every_cell(services, found, tmp_path):
    path = tmp_path / "x.h5ad"
    path.write_bytes(embed_files.file_of(services, found.job_id, "h5ad", "local"))
    data = anndata.read_h5ad(path)
    assert data.obsm["X_spatialformer"].shape == (1600, 16)
    assert np.isfinite(data.obsm["X_umap"]).all(1).sum() == 1_200
    assert {"cell_type", "spatialformer_cluster", "spatialformer_niche"} <= set(data.obs)
    content = embed_files.file_of(services, found.job_id, "csv", "local")
    table = pd.read_csv(io.BytesIO(content), dtype={"cluster": str})
    assert list(table["cell_id"]) == list(data.obs_names)
    assert list(table["cluster"].fillna("")) == list(
        found.table["cluster"].astype(object).fillna("")
    )
    parquet = embed_files.file_of(services, found.job_id, "parquet", "local")
    assert len(pd.read_parquet(io.BytesIO(parquet))) == 1600


def header_and_codes(body):
    length = int(np.frombuffer(body, "<u4", 1)[0])
    header = json.loads(body[4 : 4 + length])
    dtype = "<u2" if header.get("wide") else "u1"
    return header, np.frombuffer(body, dtype, offset=4 + length)


def test_codes_of_some_cells_with_the_others_faint():
    header = {"kind": "group", "categories": ["a", "b"], "colours": ["#1", "#2"], "wide": False}
    body = with_header(header, bytes([0, 1, 1, 255]))
    passes, picks = np.array([1, 1, 0, 1], bool), np.array([0, 1, 0, 1], bool)
    header, codes = header_and_codes(recoded(body, passes, np.array([3, 1, 0]), picks))
    assert list(codes) == [255, 1, 2]
    assert header["categories"] == ["a", "b", REST]
    assert header["faint"] == [2]
    assert (header["cells"], header["kept"], header["n_unassigned"]) == ([0, 1, 1], [0, 1, 1], 1)
    many = {"kind": "group", "categories": ["x"] * 255, "colours": ["#1"] * 255, "wide": False}
    header, codes = header_and_codes(
        recoded(with_header(many, bytes([254, 255])), passes[:2], picked=np.array([False, True]))
    )
    assert header["wide"]
    assert list(codes) == [255, 65_535]
    gene = with_header({"kind": "gene", "n_positive": 3}, bytes([5, 0, 7]))
    header, codes = header_and_codes(recoded(gene, passes[:3], picked=np.array([1, 1, 0], bool)))
    assert (list(codes), header["n_positive"]) == ([5, 0, 0], 1)
    value = {"kind": "value", "n_known": 2, "wide": True}
    body = with_header(value, np.array([9, 65_535, 4], "<u2").tobytes())
    header, codes = header_and_codes(recoded(body, passes[:3], picked=np.array([0, 1, 1], bool)))
    assert (list(codes), header["n_known"]) == ([65_535, 65_535, 4], 1)


def test_genes_of_a_selection_by_hand(services):
    slide = services.slide("small")
    picks = np.zeros(1600, bool)
    picks[:40] = True
    table = selection_genes(slide, picks).set_index("gene")
    _, _, counts = services_truth()
    mine, rest = counts[:40].sum(0), counts[40:1560].sum(0)
    expected = np.log2((1e4 * mine / mine.sum() + 1)[:12] / (1e4 * rest / rest.sum() + 1)[:12])
    names = [f"GENE{i:02d}" for i in range(12)]
    np.testing.assert_allclose(table.loc[names, "log2_ratio"], expected)
    assert (table["detected"] == 1).all()


def test_selections_are_their_owners(services):
    mask = np.arange(1600) % 7 == 0
    name = picked.keep("me", "small", mask)
    np.testing.assert_array_equal(picked.find("me", "small", name, 1600), mask)
    for owner, slide, n in (("you", "small", 1600), ("me", "other", 1600), ("me", "small", 1599)):
        with pytest.raises(SpatialFormerError, match="not kept"):
            picked.find(owner, slide, name, n)


@pytest.fixture
def client(services):
    from starlette.applications import Starlette

    from pages.ui.routes import ROUTES

    return TestClient(Starlette(routes=ROUTES))


def test_the_map_answers_like_a_slide(client, services, found):
    from pages.ui.routes import mint_token

    headers = {"X-SF-Token": mint_token("local", "small")}
    base = f"/sf/v1/small/map/{found.job_id}"

    def get(path, expected=200):
        answer = client.get(path, headers=headers)
        assert answer.status_code == expected, answer.text
        return answer

    info = get(f"{base}/info.json").json()
    assert info["is_map"] is True
    assert (info["n_cells"], info["images"], info["has_polygons"]) == (1200, [], False)
    points = get(f"{base}/points.bin").content
    assert np.frombuffer(points, "<u4", 1)[0] == 1200
    _, types, _ = services_truth()
    _, codes = header_and_codes(get(f"{base}/group/cell_type.bin").content)
    np.testing.assert_array_equal(codes, types[found.rows])
    job = f"result/{found.job_id}/cluster"
    header, codes = header_and_codes(get(f"{base}/{job}.bin").content)
    np.testing.assert_array_equal(
        codes, label_codes(found, services.slide("small"), "cluster")[1][found.rows]
    )
    mask = np.zeros(1600, bool)
    mask[found.rows[:5]] = True
    name = picked.keep("local", "small", mask)
    header, codes = header_and_codes(get(f"{base}/pick/{name}/group/cell_type.bin").content)
    assert list(np.flatnonzero(codes != 3)) == [0, 1, 2, 3, 4]
    header, codes = header_and_codes(get(f"/sf/v1/small/pick/{name}/plain/cells.bin").content)
    assert header["cells"] == [5, 1595]
    cell = get(f"{base}/cell/1.json").json()
    assert cell["id"] == services.slide("small").cell_ids[found.rows[1]]
    for path in (
        f"{base}/cell/1200.json",
        f"{base}/pick/nothing/group/cell_type.bin",
        f"{base}/group/nothing.bin",
        f"{base}/colour/x.bin",
        "/sf/v1/small/map/nothing/info.json",
    ):
        get(path, 404)
    theirs = {"X-SF-Token": mint_token("local", "other")}
    assert client.get(f"{base}/info.json", headers=theirs).status_code == 403


def test_others_maps_are_not_opened(services, found):
    with pytest.raises(SpatialFormerError, match="no job"):
        open_map(services.slide("small"), found.job_id, "bob")


def test_lasso_on_the_map_by_hand(services, found):
    from shapely import box

    slide = services.slide("small")
    chosen = picked_on_map(found, slide, box(-1, -1, 2_001, 1))
    np.testing.assert_array_equal(np.flatnonzero(chosen), np.sort(found.rows))
    assert not picked_on_map(found, slide, box(-10, -10, -5, -5)).any()
