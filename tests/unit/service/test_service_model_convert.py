"""Published files converted from a page: what is offered, refused, made."""

from __future__ import annotations

import pytest

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import model_convert


@pytest.fixture(autouse=True)
def no_worker(monkeypatch, home):
    monkeypatch.setattr(model_convert, "ensure_worker", lambda home: True)
    monkeypatch.setenv("SPATIALFORMER_HOME", str(home))


def asked(services, **values):
    entry = model_convert.weight_files(services)[0]
    return model_convert.ConvertRequest.model_validate({"file_id": entry.id, **values})


def test_what_is_refused_before_it_is_queued(services):
    assert model_convert.weight_files(services) == []
    folder = services.home / "sources"
    folder.mkdir()
    (folder / "71.ckpt").write_bytes(b"no checkpoint")
    assert [f.name for f in model_convert.weight_files(services)] == ["71.ckpt"]
    for name, said in (("../x", "cannot be used"), ("a b", "cannot be used")):
        with pytest.raises(SpatialFormerError, match=said):
            model_convert.start_convert(services, asked(services, name=name), "local")
    (services.home / "checkpoints" / "mine").mkdir(parents=True)
    with pytest.raises(SpatialFormerError, match="'mine' already"):
        model_convert.start_convert(services, asked(services, name="mine"), "local")
    with pytest.raises(SpatialFormerError, match="no slide"):
        request = asked(services, name="new", check_slide="nothing")
        model_convert.start_convert(services, request, "local")
    request = asked(services, name="new").model_copy(update={"file_id": "gone"})
    with pytest.raises(SpatialFormerError, match="no weights"):
        model_convert.start_convert(services, request, "local")
    assert services.jobs() == []


def test_a_damaged_file_leaves_no_checkpoint(services, tmp_path):
    from spatialformer_core.progress import never, silent

    folder = services.home / "sources"
    folder.mkdir()
    (folder / "71.ckpt").write_bytes(b"no checkpoint")
    job_id = model_convert.start_convert(services, asked(services, name="new"), "local")
    params = services.job(job_id).params
    with pytest.raises(SpatialFormerError, match=r"71\.ckpt"):
        model_convert.run_convert_job(params, tmp_path, silent, never)
    assert not (services.home / "checkpoints" / "new").exists()


def test_a_published_file_becomes_a_model(services, published):
    import torch

    from spatialformer_core.jobs import run_job
    from spatialformer_core.progress import silent
    from spatialformer_core.service.kinds import resolve

    folder = services.home / "sources"
    folder.mkdir()
    torch.save(published.published_state(1950, old=True), folder / "61.ckpt")
    request = asked(services, name="old-61", input_type="paired")
    job_id = model_convert.start_convert(services, request, "local")
    run_job(services.queue, job_id, resolve, silent)
    assert services.job(job_id).status == "done", services.job(job_id).error
    info = services.checkpoint("old-61")
    assert info.n_tokens == 1951
    assert info.provenance["source_file"]["name"] == "61.ckpt"
