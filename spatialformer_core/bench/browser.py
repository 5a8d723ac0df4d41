"""Looking at all cells of a slide in a headless Chromium: our viewer, Plotly and pydeck.

All three end with the same event: the positions of every cell were handed to WebGL and the first
drawing call was given after that. What the graphics card (here: a processor) then does is left out.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spatialformer_core import files
from spatialformer_core.bench.visitors import free_port, running
from spatialformer_core.errors import SpatialFormerError

ARGUMENTS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_VIEW_MS = 600_000
_BYTES_PER_POINT = 8
"""Two coordinates of four bytes: the least that any of the three hands over."""

_WATCH = """
(() => {
  const points = %d, least = %d * points;
  const handed = new WeakMap();
  window.benchPoints = { at: null };
  const note = (gl, value) => {
    handed.set(gl, (handed.get(gl) ?? 0) + (value?.byteLength ?? 0));
  };
  const watch = (prototype, name, before) => {
    const original = prototype[name];
    if (!original) return;
    prototype[name] = function (...values) {
      before(this, values);
      return original.apply(this, values);
    };
  };
  for (const kind of ['WebGLRenderingContext', 'WebGL2RenderingContext']) {
    const prototype = window[kind]?.prototype;
    if (!prototype) continue;
    watch(prototype, 'bufferData', (gl, values) => note(gl, values[1]));
    watch(prototype, 'bufferSubData', (gl, values) => note(gl, values[2]));
    for (const name of ['drawArrays', 'drawElements']) {
      for (const way of [name, `${name}Instanced`]) {
        watch(prototype, way, (gl) => {
          if (handed.get(gl) >= least) window.benchPoints.at ??= performance.now();
        });
      }
    }
  }
})();
"""

_CELLS = '[data-testid="stMetricValue"]'
_ANGLES = [2 * math.pi * k / 8 for k in range(9)]

_LASSO_WATCH = """
(cells) => {
  const text = () => document.querySelector(cells)?.textContent;
  const watched = (window.benchLasso = { s: [] });
  let began = null, before = null;
  window.addEventListener('pointerup', () => {
    began = performance.now();
    before = text();
  }, true);
  new MutationObserver(() => {
    const now = text();
    if (began === null || !now || now === before) return;
    watched.s.push((performance.now() - began) / 1e3);
    began = null;
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}
"""

_READ = """
import os
import numpy as np
import streamlit as st

st.set_page_config(layout="wide")

@st.cache_resource
def cells():
    folder = os.environ["SPATIALFORMER_BENCH_CELLS"]
    return np.load(f"{folder}/xy.npy"), np.load(f"{folder}/code.npy")
"""

_PLOTLY = """
import plotly.graph_objects as go

@st.cache_resource
def figure():
    xy, code = cells()
    marker = {"color": code, "size": 2, "colorscale": "Turbo"}
    return go.Figure(go.Scattergl(x=xy[:, 0], y=xy[:, 1], mode="markers", marker=marker))

st.plotly_chart(figure(), height=640)
"""

_PYDECK = """
import colorsys
import pandas as pd
import pydeck

@st.cache_resource
def deck():
    xy, code = cells()
    n = int(code.max()) + 1
    hues = [colorsys.hsv_to_rgb(k / n, 0.7, 0.9) for k in range(n)]
    rgb = (255 * np.array(hues)).astype(np.uint8)[code]
    table = pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1]})
    table[["r", "g", "b"]] = rgb
    layer = pydeck.Layer(
        "ScatterplotLayer", table, get_position="[x, y]", get_fill_color="[r, g, b]", get_radius=4
    )
    middle = [*xy.mean(axis=0).tolist(), 0]
    state = pydeck.ViewState(target=middle, zoom=-4)
    view = pydeck.View(type="OrthographicView", controller=True)
    return pydeck.Deck([layer], [view], initial_view_state=state, map_provider=None)

st.pydeck_chart(deck(), height=640)
"""

REFERENCES = {"plotly": _READ + _PLOTLY, "pydeck": _READ + _PYDECK}
"""Scripts of Streamlit that draw the same cells; what can be kept between visits is kept."""


@dataclass(frozen=True)
class FirstView:
    """One look at all cells.

    Attributes
    ----------
    seconds
        From navigation until all cells were handed to the renderer.
    n_bytes
        All bytes to and from the browser until then: HTTP as transferred, websocket as said.
    """

    seconds: float
    n_bytes: int


def missing() -> str | None:
    """Return why no browser can be driven here, None if one can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (pip install playwright)"
    if browser_path() is None:
        return "no Chromium is installed (apt-get install chromium)"
    return None


def browser_path() -> str | None:
    """Return where a Chromium lies."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser of its own, so that nothing is cached and nothing else is being drawn."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def first_view(url: str, n_cells: int) -> FirstView:
    """Open a page and wait until all cells were handed to the renderer.

    Raises
    ------
    SpatialFormerError
        If that does not happen within ten minutes.
    """
    from playwright.sync_api import Error

    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.add_init_script(_WATCH % (n_cells, _BYTES_PER_POINT))
        counted = _Counter(page)
        try:
            page.goto(url, wait_until="commit", timeout=_VIEW_MS)
            page.wait_for_function("window.benchPoints.at !== null", polling=200, timeout=_VIEW_MS)
            at_ms = page.evaluate("window.benchPoints.at")
        except Error as error:
            said = str(error).splitlines()[0][:200]
            raise SpatialFormerError(f"The cells did not appear: {said}", where=url) from error
        return FirstView(at_ms / 1e3, counted.n_bytes)


def lassos(chromium: Any, url: str, n: int) -> list[float]:
    """Draw regions in the tissue viewer with the mouse.

    Returns
    -------
    list of float
        Seconds from letting go of the button until the number of cells below the viewer changed.
    """
    page = chromium.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(_VIEW_MS)
    page.goto(url)
    page.locator('.sf[data-state="ready"]').wait_for()
    page.locator(_CELLS).first.wait_for()
    page.evaluate(_LASSO_WATCH, _CELLS)
    box = page.locator(".sf > canvas").bounding_box()
    middle = (box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    seconds = []
    for number in range(n):
        page.get_by_role("button", name="Lasso (L)").click()
        radius = box["height"] * (0.12 + 0.03 * (number % 5))
        path = [(radius * math.cos(a), radius * math.sin(a)) for a in _ANGLES]
        page.mouse.move(middle[0] + path[0][0], middle[1] + path[0][1])
        page.mouse.down()
        for x, y in path[1:]:
            page.mouse.move(middle[0] + x, middle[1] + y, steps=4)
        page.mouse.up()
        page.wait_for_function("window.benchLasso.s.length > " + str(number), polling=50)
        seconds.append(float(page.evaluate("window.benchLasso.s.at(-1)")))
        page.locator('[data-test-script-state="notRunning"]').wait_for()
    page.close()
    return seconds


class _Counter:
    """Counts what crosses the network, as the browser's own tools do."""

    def __init__(self, page: Any) -> None:
        self.n_bytes = 0
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.dataReceived", self._data)
        session.on("Network.webSocketFrameReceived", self._frame)
        session.on("Network.webSocketFrameSent", self._frame)

    def _data(self, event: dict[str, Any]) -> None:
        self.n_bytes += int(event["encodedDataLength"])

    def _frame(self, event: dict[str, Any]) -> None:
        frame = event["response"]
        size = len(frame["payloadData"])
        # Binary frames are told in base64.
        self.n_bytes += size * 3 // 4 if frame["opcode"] == 2 else size


@contextmanager
def reference_app(name: str, xy_um: Any, codes: Any) -> Iterator[str]:
    """Serve one of `REFERENCES` with ``streamlit run``; give its address."""
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="spatialformer-bench-") as text:
        folder = Path(text)
        np.save(folder / "xy.npy", np.asarray(xy_um, np.float32))
        np.save(folder / "code.npy", np.asarray(codes, np.uint8))
        with files.atomic_write(folder / "app.py", "w") as stream:
            stream.write(REFERENCES[name])
        port = free_port()
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
        command += ["--server.headless", "true", "--server.address", "127.0.0.1"]
        command += ["--browser.gatherUsageStats", "false"]
        os.environ["SPATIALFORMER_BENCH_CELLS"] = text
        try:
            with running(command, port, folder, folder) as server:
                yield server.url
        finally:
            del os.environ["SPATIALFORMER_BENCH_CELLS"]
