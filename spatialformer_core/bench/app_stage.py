"""The app under a slide of a million cells: what a visitor waits for, and what it costs the server.

Ratios are against Streamlit's own charts of the same cells in the same run. Times are of the wall
clock, since waiting is what is asked about; beside other work on the machine they are too long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np

from spatialformer_core import files
from spatialformer_core.bench import browser
from spatialformer_core.bench.large_slide import large_slide
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, against, bounded
from spatialformer_core.bench.visitors import Data, OpenPage, Server, serving
from spatialformer_core.slides import Slide, SlideStore

CELLS, TRANSCRIPTS = 1_000_000, 100_000_000
LASSO_CELLS = 20_000
CLIENTS = 6
_TILES_PER_CLIENT = 60
_WARM_UP = 10
_GENES = 3
_GROUP = "cell_type"
_CORNERS = 200
_LIMITS = {"first_view_vs_plotly": 4.0, "first_view_vs_pydeck": 7.0}
_LIMITS |= {"bytes_vs_plotly": 2.5, "bytes_vs_pydeck": 10.0}

NextPath = Callable[[], str]


def prepared(options: BenchOptions, n_cells: int = CELLS) -> tuple[Path, Slide]:
    """Return the home folder of the benchmark and its slide; it is written if it is not there."""
    home = options.cache or files.home() / "bench-app"
    n = options.scaled(n_cells) if n_cells == CELLS else n_cells
    slide_id = f"cells-{n}"
    large_slide(home, slide_id, n, n * TRANSCRIPTS // CELLS, options.seed)
    return home, SlideStore(home).open(slide_id)


def first_views(options: BenchOptions) -> list[Row]:
    """Time the way from navigation to all cells, and count its bytes, for three viewers."""
    home, slide = prepared(options)
    query = f"/tissue?slide={slide.meta.slide_id}"
    with serving(home) as server:
        ours = _best_view(server.url + query, slide, options)
    rows = []
    for name in browser.REFERENCES:
        with browser.reference_app(name, slide.xy_um, slide.group(_GROUP).codes) as url:
            theirs = _best_view(url, slide, options)
        reference_is = f"st.{name}_chart of the same cells"
        for kind, pair, unit in (
            ("first_view", (ours.seconds, theirs.seconds), "s from navigation"),
            ("bytes", (ours.n_bytes / 1e6, theirs.n_bytes / 1e6), "MB, HTTP and websocket"),
        ):
            figure = f"{kind}_vs_{name}"
            limit = _LIMITS[figure]
            rows.append(
                against("app", figure, pair, reference_is=reference_is, limit=limit, unit=unit)
            )
    return rows


def _best_view(url: str, slide: Slide, options: BenchOptions) -> browser.FirstView:
    # The first look of a server is another one's: it imports and compiles.
    views = [browser.first_view(url, slide.meta.n_cells) for _ in range(options.rounds + 1)]
    return min(views[1:], key=lambda view: view.seconds)


def lasso(options: BenchOptions) -> list[Row]:
    """Draw regions with the mouse and wait for their composition."""
    home, slide = prepared(options, LASSO_CELLS)
    with serving(home) as server, browser.chromium() as chromium:
        url = f"{server.url}/tissue?slide={slide.meta.slide_id}"
        seconds = browser.lassos(chromium, url, 2 + 2 * options.rounds)
    # The first one loads the code of the charts.
    return [
        bounded("app", "lasso", float(np.median(seconds[1:])), "s", at_most=0.5),
        bounded("app", "lasso_first", seconds[0], "s"),
    ]


def served(options: BenchOptions) -> list[Row]:
    """Time what the server does for one slide of a million cells, without a browser."""
    home, slide = prepared(options)
    with serving(home) as server:
        query = f"slide={slide.meta.slide_id}"
        page = OpenPage(server.port, "tissue", query)
        rows = _first_view_of_server(server, query, options)
        rows += _tiles(server, slide, page.visit.viewer)
        rows += _lasso_of_server(page, slide, options)
        page.close()
        rows.append(
            bounded("app", "server_memory", server.peak_bytes() / 1e9, "GB at most", at_most=1.0)
        )
    return rows


def _first_view_of_server(server: Server, query: str, options: BenchOptions) -> list[Row]:
    totals, parts = [], []
    for _ in range(2 + 3 * options.rounds):
        page = OpenPage(server.port, "tissue", query)
        data = Data(server.port, page.visit.viewer)
        answers = [data.fetch(path)[0] for path in _FIRST_DATA]
        page.close()
        data.close()
        parts.append((page.visit.viewer_s or math.inf, sum(answers)))
        totals.append(sum(parts[-1]))
    script, fetched = parts[int(np.argmin(totals))]
    return [
        bounded("app", "server_first_view", min(totals), "s warm, best", at_most=0.1),
        bounded("app", "server_first_view_page", script, "s of it for the page"),
        bounded("app", "server_first_view_data", fetched, "s of it for points and colours"),
    ]


_FIRST_DATA = ("info.json", "points.bin", f"group/{_GROUP}.bin")


def _tiles(server: Server, slide: Slide, viewer: dict[str, object]) -> list[Row]:
    rng = np.random.default_rng(0)
    kinds: dict[str, tuple[NextPath, float | None]] = {
        f"{'image' if image.kind == 'he' else image.kind}_tile": (
            _image_path(slide, image.name, rng),
            0.025,
        )
        for image in slide.meta.images
    }
    kinds["transcript_tile"] = (_molecules_path(slide, rng, window=False), 0.010)
    kinds["transcript_window"] = (_molecules_path(slide, rng, window=True), None)
    kinds["outline_tile"] = (_tile_path(slide, rng), None)
    rows = []
    for name, (path, limit_s) in kinds.items():
        seconds = _by_clients(server.port, viewer, path)
        value = float(np.quantile(seconds, 0.95))
        unit = f"s, 95th percentile of {len(seconds)}, {CLIENTS} clients"
        rows.append(bounded("app", name, value, unit, at_most=limit_s))
    return rows


def _image_path(slide: Slide, name: str, rng: np.random.Generator) -> NextPath:
    image = slide.image(name)
    columns, rows = (-(-size // image.tile_px) for size in (image.width, image.height))
    return lambda: f"image/{name}/0/0/{rng.integers(columns)}/{rng.integers(rows)}.jpg"


def _tile_path(slide: Slide, rng: np.random.Generator) -> NextPath:
    grid = slide.grid
    return lambda: f"outlines/{rng.integers(grid.nx)}/{rng.integers(grid.ny)}.bin"


def _molecules_path(slide: Slide, rng: np.random.Generator, *, window: bool) -> NextPath:
    grid, genes = slide.grid, np.array(slide.genes)

    def path() -> str:
        names = ",".join(quote(name) for name in rng.choice(genes, _GENES, replace=False))
        x, y = int(rng.integers(grid.nx)), int(rng.integers(grid.ny))
        if not window:
            return f"molecules/{x}/{y}.bin?genes={names}"
        # As the viewer asks: the tiles that twice its width and height touch.
        corner = [grid.x0 + (x - 1) * grid.tile_um, grid.y0 + (y - 1) * grid.tile_um]
        ends = [value + 3 * grid.tile_um for value in corner]
        text = ",".join(f"{value:.2f}" for value in (*corner, *ends))
        return f"molecules.bin?genes={names}&window={text}"

    return path


def _by_clients(port: int, viewer: dict[str, object], path: NextPath) -> list[float]:
    """Fetch tiles with several clients at once; return the seconds of each request."""
    paths = [[path() for _ in range(_TILES_PER_CLIENT + _WARM_UP)] for _ in range(CLIENTS)]

    def client(wanted: Sequence[str]) -> list[float]:
        data = Data(port, viewer)
        seconds = [data.fetch(one)[0] for one in wanted]
        data.close()
        return seconds[_WARM_UP:]

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [value for seconds in pool.map(client, paths) for value in seconds]


def _lasso_of_server(page: OpenPage, slide: Slide, options: BenchOptions) -> list[Row]:
    x0, y0, x1, y1 = slide.meta.bounds_um
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(1 + 3 * options.rounds):
        # A twentieth of the tissue, wherever it lies.
        radius_um = math.sqrt(0.05 * (x1 - x0) * (y1 - y0) / math.pi)
        centre = rng.uniform([x0 + radius_um, y0 + radius_um], [x1 - radius_um, y1 - radius_um])
        angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
        reach = radius_um * (0.95 + 0.05 * np.sin(7 * angle))
        ring = centre + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        seconds.append(page.lasso(slide.meta.slide_id, ring.tolist()))
    median = float(np.median(seconds[1:]))
    unit = f"s, {slide.meta.n_cells:,} cells, 5 % chosen"
    return [bounded("app", "lasso_server", median, unit, at_most=0.5)]
