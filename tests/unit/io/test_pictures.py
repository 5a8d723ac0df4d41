"""Where an image lies, and that its pyramid holds its pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.io import alignment, images, pyramid
from spatialformer_core.io.records import ImageSource


def test_affine_is_read(tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("0.5,-0.1,3\n0.1,0.5,4\n0,0,1\n")
    assert alignment.read_affine(path, tmp_path).tolist() == [
        [0.5, -0.1, 3],
        [0.1, 0.5, 4],
        [0, 0, 1],
    ]


@pytest.mark.parametrize(
    "text",
    ["1,0,0\n0,1,0\n", "1,0,0\n0,1,0\n0,0,2\n", "1,0,0\n0,nan,0\n0,0,1\n", "0,0,1\n0,0,1\n0,0,1\n",
     "a,b,c\n0,1,0\n0,0,1\n", "1,0\n0,1\n0,0\n", "1,1,0\n1,1,0\n0,0,1\n", "\xff\xfe"],
)  # fmt: skip
def test_bad_affine_is_refused(tmp_path, text: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(SpatialFormerError):
        alignment.read_affine(tmp_path / "a.csv", tmp_path)


POINTS = np.array([[100.0, 50], [9000, 80], [200, 7000], [8000, 6500], [4000, 3000]])
TURN = np.array([[0.3, -1.1, 400], [1.2, 0.4, -90], [0, 0, 1]])


def keypoints(path, moving, fixed, header="fixedX,fixedY,alignmentX,alignmentY"):
    lines = [",".join(f"{v!r}" for v in map(float, row)) for row in np.hstack([fixed, moving])]
    path.write_text("\n".join([header, *lines, ""]))
    return path


def turned(points: np.ndarray) -> np.ndarray:
    return points @ TURN[:2, :2].T + TURN[:2, 2]


@pytest.mark.parametrize("n", [3, 4, 5])
def test_exact_keypoints_give_their_matrix(tmp_path, n) -> None:
    path = keypoints(tmp_path / "k.csv", POINTS[:n], turned(POINTS[:n]))
    found = alignment.read_alignment(path, tmp_path)
    np.testing.assert_allclose(found.matrix, TURN, atol=1e-8)
    # Three points always fit: that says nothing about how good they are.
    assert found.rms_px is None if n == 3 else found.rms_px == pytest.approx(0, abs=1e-8)


def test_keypoints_that_disagree_are_fitted_by_least_squares(tmp_path) -> None:
    fixed = turned(POINTS) + np.random.default_rng(0).normal(0, 20, POINTS.shape)
    found = alignment.read_keypoints(keypoints(tmp_path / "k.csv", POINTS, fixed), tmp_path)

    def rms(matrix) -> float:
        placed = POINTS @ matrix[:2, :2].T + matrix[:2, 2]
        return float(np.sqrt(((placed - fixed) ** 2).sum(axis=1).mean()))

    assert found.rms_px == pytest.approx(rms(found.matrix))
    assert 0 < found.rms_px < rms(TURN)
    for row, column, step in [(0, 0, 1e-4), (1, 1, -1e-4), (0, 2, 1), (1, 2, -1)]:
        other = found.matrix.copy()
        other[row, column] += step
        assert rms(other) > found.rms_px


def test_columns_of_keypoints_may_stand_in_any_order(tmp_path) -> None:
    (tmp_path / "k.csv").write_text(
        "name,alignmentY,alignmentX,fixedY,fixedX\na,0,0,7,5\nb,0,1,7,6\nc,1,0,8,5\n"
    )
    found = alignment.read_alignment(tmp_path / "k.csv", tmp_path)
    np.testing.assert_allclose(found.matrix, [[1, 0, 5], [0, 1, 7], [0, 0, 1]], atol=1e-12)


@pytest.mark.parametrize(
    ("moving", "fixed", "header", "message"),
    [
        (POINTS[:2], POINTS[:2], None, "2 keypoints do not place"),
        (POINTS[:0], POINTS[:0], None, "0 keypoints do not place"),
        (POINTS[[0, 0, 0]], POINTS[:3], None, "3 keypoints do not place"),
        (np.outer(range(4), [1, 2]), POINTS[:4], None, "4 keypoints do not place"),
        (POINTS[:4], np.outer(range(4), [3, 1]), None, "4 keypoints do not place"),
        (POINTS * np.nan, POINTS, None, "do not place"),
        (POINTS * np.inf, POINTS, None, "do not place"),
        (POINTS, POINTS, "fixedX,fixedY,alignmentX,other", "Columns fixedX"),
        (POINTS, POINTS, "fixedX,fixedY,alignmentX,alignmentY,more", "Columns fixedX"),
    ],
)
def test_bad_keypoints_are_refused(tmp_path, moving, fixed, header, message) -> None:
    path = keypoints(tmp_path / "k.csv", moving, fixed, *([header] if header else []))
    with pytest.raises(SpatialFormerError, match=message):
        alignment.read_alignment(path, tmp_path)


def test_he_is_placed_through_morphology_pixels(bundles, tmp_path) -> None:
    """H&E px (10, 20) -> morphology px (2*20+5, 3*10+7) -> um."""
    bundles.write_he(tmp_path / "he.tif", size=64)
    (tmp_path / "a.csv").write_text("0,2,5\n3,0,7\n0,0,1\n")
    source = images.he_source(tmp_path / "he.tif", tmp_path / "a.csv", 0.2)
    assert source.um_from_px @ [10, 20, 1] == pytest.approx([45 * 0.2, 37 * 0.2, 1])


def test_pixel_size_is_read_never_guessed(bundles, tmp_path) -> None:
    bundles.write_stain(tmp_path / "a.tif", pixel_um=0.2125, size=64)
    assert images.pixel_size_um(tmp_path / "a.tif", tmp_path) == 0.2125
    bundles.write_stain(tmp_path / "b.tif", pixel_um=None, size=64)
    assert images.pixel_size_um(tmp_path / "b.tif", tmp_path) is None
    uneven = {"axes": "YX", "PhysicalSizeX": 1.0, "PhysicalSizeY": 2.0}
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((64, 64), np.uint8), ome=True, metadata=uneven)
    assert images.pixel_size_um(tmp_path / "c.tif", tmp_path) is None
    nano = {"axes": "YX", "PhysicalSizeX": 500.0, "PhysicalSizeY": 500.0}
    nano |= {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "d.tif", np.zeros((64, 64), np.uint8), ome=True, metadata=nano)
    assert images.pixel_size_um(tmp_path / "d.tif", tmp_path) == 0.5


@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 6, 4), (5, 7, 3)])
def test_halving_is_the_mean_of_four(tmp_path, shape) -> None:
    level = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = pyramid._halved(level, pyramid._Scratch(tmp_path / "x"))
    stack = np.moveaxis(level, -1, 0) if shape[-1] == 3 else level
    padded = np.pad(stack, [(0, 0), (0, stack.shape[1] % 2), (0, stack.shape[2] % 2)], mode="edge")
    blocks = padded.reshape(len(stack), padded.shape[1] // 2, 2, -1, 2).astype(float)
    expected = np.floor(blocks.mean((2, 4)) + 0.5)
    assert np.array_equal(np.moveaxis(found, -1, 0) if shape[-1] == 3 else found, expected)


def test_stain_pyramid_is_lossless_and_self_contained(bundles, tmp_path) -> None:
    pixels = bundles.write_stain(tmp_path / "s.tif", size=1500)
    target = tmp_path / "out.ome.tif"
    source = ImageSource("s", "stain", (tmp_path / "s.tif",), np.eye(3))
    info = pyramid.write_pyramid(source, target)
    assert info.channels == ("DAPI", "18S")
    with tifffile.TiffFile(target) as tif:
        series = tif.series[0]
        assert series.axes == "CYX"
        assert len(series.levels) == info.levels == 3
        assert np.array_equal(series.levels[0].asarray(), pixels)
        assert series.levels[2].shape == (2, 375, 386)
        assert tif.pages.first.tile == (512, 512)
    for (low, high), plane in zip(info.limits, pixels, strict=True):
        assert plane.min() <= low < high <= plane.max()


def test_large_images_go_through_scratch_files(bundles, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pyramid, "_IN_MEMORY_BYTES", 1000)
    pixels = bundles.write_stain(tmp_path / "s.tif", size=700)
    folder = tmp_path / "out"
    folder.mkdir()
    source = ImageSource("s", "stain", (tmp_path / "s.tif",), np.eye(3))
    pyramid.write_pyramid(source, folder / "o.tif")
    assert [p.name for p in folder.iterdir()] == ["o.tif"]
    assert np.array_equal(tifffile.imread(folder / "o.tif"), pixels)


def test_one_file_per_channel_as_newer_instruments_write(tmp_path) -> None:
    rng = np.random.default_rng(2)
    folder = tmp_path / "morphology_focus"
    folder.mkdir()
    planes = rng.integers(0, 999, (4, 80, 90), dtype=np.uint16)
    names = ["DAPI", "ATP1A1", "18S", "Vimentin"]
    paths = tuple(folder / f"morphology_focus_{i:04d}.ome.tif" for i in range(4))
    channels = "".join(f'<Channel ID="Channel:0:{i}" Name="{n}"/>' for i, n in enumerate(names))
    parts = "".join(
        f'<TiffData FirstC="{i}" IFD="0"><UUID FileName="{p.name}">urn:uuid:{i}</UUID></TiffData>'
        for i, p in enumerate(paths)
    )
    xml = f'<OME><Image><Pixels SizeC="4" SizeZ="1">{channels}{parts}</Pixels></Image></OME>'
    for path, plane in zip(paths, planes, strict=True):
        tifffile.imwrite(path, plane, description=xml, metadata=None)
    source = ImageSource("morphology", "stain", paths, np.eye(3))
    info = pyramid.write_pyramid(source, tmp_path / "o.tif")
    assert list(info.channels) == names
    assert np.array_equal(tifffile.imread(tmp_path / "o.tif"), planes)


def test_he_layouts_agree(tmp_path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (70, 60, 3), dtype=np.uint8)
    planar = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "a_he_image.ome.tif", pixels, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "b_he_image.ome.tif", planar, photometric="rgb", planarconfig="separate"
    )
    tifffile.imwrite(
        tmp_path / "c_he_image.ome.tif", planar, photometric="minisblack", metadata={"axes": "CYX"}
    )
    for name in "abc":
        path = tmp_path / f"{name}_he_image.ome.tif"
        assert images.is_rgb(path, tmp_path)
        with tifffile.TiffFile(path, is_ome=False) as tif:
            out = pyramid._decode_colour(tif, pyramid._Scratch(tmp_path / "x"))
        assert np.array_equal(out, pixels), name


def test_unusable_pixels_are_refused(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((64, 64), np.float32))
    source = ImageSource("f", "stain", (tmp_path / "f.tif",), np.eye(3))
    with pytest.raises(SpatialFormerError, match="8 or 16 bits"):
        pyramid.write_pyramid(source, tmp_path / "o.tif")
