// One viewer on a page: joins the canvas, the tools, the panel and what Streamlit sends.

import { Camera } from './camera.js';
import { AlignmentCheck } from './curtain.js';
import { decodeCodes, decodePoints } from './decode.js';
import { h } from './dom.js';
import { DrawingTools } from './draw.js';
import { Corners } from './edit.js';
import { Grid } from './grid.js';
import { Inspect } from './inspect.js';
import { Keypoints } from './keypoints.js';
import { Minimap } from './minimap.js';
import { Net, codesPath } from './net.js';
import { Panel } from './panel.js';
import { firstRange } from './range.js';
import { Regions } from './regions.js';
import { adoptDraft, draftsOf, settingsOf } from './settings.js';
import { Stage, freshCanvas, hasWebGL } from './stage.js';
import { Status } from './status.js';
import { STYLE } from './style.js';
import { Toolbar } from './toolbar.js';
import { round } from './tools.js';
import { Card, Tooltip } from './tooltip.js';
import { Transcripts } from './transcripts.js';

const SVG = 'http://www.w3.org/2000/svg';
const NARROW_PX = 620;
const SHORT_PX = 430;

/** What of the page's wishes is part of deck's picture; regions and points lie over it. */
const pictureOf = ({ colorBy, genes, images }) => JSON.stringify([colorBy, genes, images]);

export class Viewer extends Inspect {
  constructor(root) {
    super();
    this.root = root;
    this.build();
    this.listen();
    root.append(this.style, this.box);
  }

  build() {
    this.style = h('style', {}, STYLE);
    this.canvas = h('canvas', {});
    this.svg = document.createElementNS(SVG, 'svg');
    this.svg.setAttribute('aria-hidden', 'true');
    const sketch = document.createElementNS(SVG, 'path');
    sketch.setAttribute('class', 'sketch');
    this.corners = document.createElementNS(SVG, 'g');
    const handles = document.createElementNS(SVG, 'g');
    const points = document.createElementNS(SVG, 'g');
    this.svg.append(sketch, this.corners, handles, points);
    this.regions = new Regions(this.svg);
    this.toolbar = new Toolbar((name) => this.press(name));
    this.panel = new Panel((patch) => this.choose(patch));
    this.status = new Status();
    const facts = (cell) => this.net.json(`cell/${cell}.json`);
    this.tooltip = new Tooltip(facts);
    this.card = new Card(facts, (sentence) => this.status.say(sentence));
    this.check = new AlignmentCheck({ onChange: () => this.redraw(), onMove: () => this.stage?.deck.redraw('curtain') });
    this.minimap = new Minimap((um) => this.goTo(um));
    this.box = h('div', { class: 'sf', tabindex: '0', role: 'application', 'aria-label': 'Tissue viewer' },
      this.canvas, this.svg, this.toolbar.element, this.panel.element, ...this.status.elements, this.minimap.element, this.check.element, this.card.element, this.tooltip.element);
    this.box.tissueViewer = this;
    this.tools = new DrawingTools(this.box, sketch, {
      onOutline: (points) => this.outlined(points),
      onRefused: (sentence) => this.status.say(sentence),
      onChange: (points) => this.sketched(points),
    });
    this.edit = new Corners(this.box, handles, {
      at: (event) => this.tools.at(event),
      onCanvas: (event) => this.tools.onCanvas(event),
      toPx: (point) => this.stage.toPx(point, ...this.size),
      toUm: (point) => this.stage.toUm(point, ...this.size).map(round),
      onShape: (ring) => this.reshaped(ring),
      onRefused: (sentence) => this.status.say(sentence),
    });
    this.keypoints = new Keypoints(points, {
      affine: () => this.image().um_from_px,
      toPx: (point) => this.stage.toPx(point, ...this.size),
      onPairs: (pairs) => { this.pointsSeq = this.send({ kind: 'keypoints', image: this.image().name, pairs }); },
    });
  }

  listen() {
    this.box.addEventListener('keydown', (event) => this.key(event));
    this.box.addEventListener('pointerdown', (event) => { this.pressed = this.tools.at(event); });
    this.box.addEventListener('pointermove', (event) => this.hover(event));
    this.box.addEventListener('pointerleave', () => { this.tooltip.hide(); this.status.pointer(null); });
    this.box.addEventListener('pointerup', (event) => this.click(event));
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(this.box);
  }

  get size() {
    return [this.box.clientWidth || 800, this.box.clientHeight || 600];
  }

  get inset() {
    return [56, this.settings.panel ? 236 : 12];
  }

  /** Called at each rerun of the page's script with what it wants shown. */
  async update(component) {
    this.component = component;
    const { data } = component;
    this.box.style.height = `${data.height}px`;
    if (data.slide !== this.data?.slide) this.open(data);
    this.data = data;
    this.net.token = data.token;
    adoptDraft(this.drafts, data.draft);
    this.adoptPoints(data.keypoints);
    if (this.info && data.images) this.info.images = data.images;
    this.showRegions();
    await this.refresh();
  }

  /** Begin with another slide. */
  open(data) {
    this.stage?.destroy();
    this.stage = null;
    this.info = null;
    this.loading = null;
    this.transcripts?.forget();
    this.colouring = null;
    this.paintedBy = undefined;
    this.drawnFor = null;
    this.net = new Net(data.base);
    this.settings = settingsOf(data.slide, this.size[0] >= NARROW_PX);
    this.drafts = draftsOf(data.slide);
    this.camera = new Camera(data.slide, (viewState) => this.stage?.look(viewState));
    this.box.dataset.state = 'loading';
    this.tools.use('pan');
    this.edit.open(null);
    this.tooltip.known.clear();
    this.card.close();
    this.check.use('off');
    this.keypoints.use(false);
    this.pointsSeq = 0;
    this.status.unblock();
    this.showTools();
  }

  /** Load what is missing for what is wanted; a failure is shown with a way to try again. */
  async refresh() {
    if (!hasWebGL(this.size)) {
      // Told once: the page answers with a picture that the server draws.
      if (this.box.dataset.state !== 'no-webgl') this.send({ kind: 'no-webgl' });
      this.box.dataset.state = 'no-webgl';
      this.status.block('This browser cannot draw the tissue', 'It offers no WebGL 2: switch on hardware acceleration or use another browser. Regions can still be imported or drawn by numbers beside this view, and composition and screens work without it.');
      return;
    }
    const { slide } = this.data;
    try {
      this.loading ??= this.load();
      await this.loading;
      if (slide === this.data.slide) await this.recolour();
      this.showTools();
      this.status.loading('');
      this.tellDrawn();
    } catch (error) {
      if (slide !== this.data.slide) return;
      if (!this.stage) this.loading = null;
      this.box.dataset.state = 'failed';
      this.status.block(this.stage ? 'The colours could not be loaded' : 'The slide could not be loaded', error.message, () => this.refresh());
      this.tellDrawn();
    }
  }

  /** Tell a page that waits for it that the cells are drawn; what it shows next is theirs no more to wait for. */
  tellDrawn() {
    const { slide, drawn } = this.data;
    // After the frame that deck draws with the cells, which is asked for already.
    if (drawn === false) requestAnimationFrame(() => setTimeout(() => slide === this.data.slide && this.send({ kind: 'drawn' })));
  }

  async load() {
    const { net } = this;
    this.status.loading('Loading cells');
    const info = await net.json('info.json');
    net.version = info.version;
    const cells = decodePoints(await net.buffer('points.bin'));
    if (net !== this.net) return; // Another slide was opened meanwhile.
    this.info = info;
    this.transcripts = new Transcripts(net, info, { onChange: () => this.redraw(), onProblem: (error) => this.problem(error) });
    this.settings.showImage ??= this.image()?.kind === 'he';
    this.grid = new Grid(cells.xy, cells.n);
    this.minimap.open(info.bounds_um);
    // Distances on a map of an embedding (UMAP) have no unit.
    this.status.scale.hidden = Boolean(info.is_map);
    this.camera.start(info.bounds_um, ...this.size, this.inset, this.data.view);
    // deck keeps a canvas to itself: each slide gets a new one.
    const canvas = freshCanvas();
    this.canvas.replaceWith(canvas);
    this.canvas = canvas;
    this.stage = new Stage(canvas, this.camera, {
      onMove: (viewState) => this.moved(viewState),
      onFrame: () => this.follow(),
      onReady: () => this.redraw(),
      onProblem: (error) => this.problem(error),
      onLost: () => this.status.block('The graphics card stopped drawing', 'This happens when it runs out of memory or the computer wakes up.', () => this.restart()),
    });
    this.stage.setCells(cells);
  }

  restart() {
    this.open(this.data);
    this.net.token = this.data.token;
    this.refresh();
  }

  images() {
    return this.info.images;
  }

  image() {
    const images = this.images();
    return images.find((image) => image.name === this.settings.image) ?? images.find((image) => image.kind === 'he') ?? images[0] ?? null;
  }

  async recolour() {
    if (!this.stage) return;
    const wanted = this.data.colorBy;
    if (wanted !== this.paintedBy) {
      this.status.loading('Loading colours');
      const colouring = wanted === 'none' ? null : decodeCodes(await this.net.codes(codesPath(wanted)));
      if (wanted !== this.data.colorBy) return; // The user was faster.
      this.colouring = colouring;
      this.paintedBy = wanted;
      this.takeRange(this.data.view?.range);
      this.paint();
      this.showLegend();
    }
    // A region that was drawn or chosen changes nothing here: each layer handed to deck costs a frame.
    if (this.drawnFor !== pictureOf(this.data)) this.redraw();
    else this.showPanel();
    this.drawnFor = pictureOf(this.data);
    this.box.dataset.state = 'ready';
    this.box.dataset.colour = wanted;
  }

  hidden() {
    const { hiddenOf } = this.settings;
    if (!hiddenOf.has(this.paintedBy)) hiddenOf.set(this.paintedBy, new Set());
    return hiddenOf.get(this.paintedBy);
  }

  range() {
    return this.settings.rangeOf.get(this.paintedBy) ?? (this.colouring ? firstRange(this.colouring.header) : null);
  }

  /** Range of the link that the page was opened with: for its first colours only. */
  takeRange(linked) {
    if (linked && !this.rangeTaken && this.range()) this.settings.rangeOf.set(this.paintedBy, { low: linked[0], high: linked[1], hide: false });
    this.rangeTaken = true;
  }

  paint() {
    const image = this.image();
    const black = Boolean(image && image.kind !== 'he' && this.settings.showImage);
    this.box.classList.toggle('black', black);
    const [r, g, b] = getComputedStyle(this.box).color.match(/[\d.]+/g).map(Number);
    this.themeDark = r + g + b > 384;
    this.dark = this.themeDark || black;
    this.stage.paint(this.colouring, { hidden: this.hidden(), range: this.range(), showFailing: this.settings.showFailing, dark: this.dark });
    this.minimap.paint(this.stage.cells, this.stage.rgba);
    performance.mark('spatialformer:points', { detail: { cells: this.info.n_cells } });
  }

  showLegend() {
    this.panel.legend.show(this.colouring, { hidden: this.hidden(), range: this.range() }, this.dark);
  }

  redraw() {
    if (!this.stage?.points) return;
    const { info, net, settings, stage, transcripts } = this;
    const image = this.image();
    transcripts.choose(this.data.genes);
    transcripts.follow({ zoom: this.camera.state.zoom, window: stage.window(...this.size) }, settings);
    // Image and cells are compared: a density map over both would hide them.
    const shown = this.aligning ? [] : transcripts.layers(settings, this.dark);
    stage.draw({ net, info, settings, image, transcripts: shown, dimmed: shown.length > 0 && transcripts.mode !== 'molecules', dark: this.dark, parts: this.check.layers });
    this.showPanel();
    this.box.dataset.transcripts = transcripts.mode;
    this.status.zoom(this.camera.state.zoom);
    this.minimap.on = settings.minimap;
    this.minimap.follow(stage.window(...this.size));
    this.toolbar.buttons.get('map').setAttribute('aria-pressed', String(settings.minimap));
  }

  /** True while the image is checked against the cells, or placed anew. */
  get aligning() {
    return this.check.mode !== 'off' || this.tools.tool === 'place';
  }

  showPanel() {
    const { info, settings, transcripts } = this;
    this.panel.show(info, settings, { images: this.images(), image: this.image(), regions: this.data.rois.length, transcripts });
  }

  moved(viewState) {
    this.box.dataset.zoom = viewState.zoom.toFixed(3);
    this.tooltip.hide();
    this.redraw();
  }

  /** The user changed a setting. */
  choose(patch) {
    if (patch.hidden) this.settings.hiddenOf.set(this.paintedBy, patch.hidden);
    else if (patch.range) this.settings.rangeOf.set(this.paintedBy, patch.range);
    else Object.assign(this.settings, patch);
    const repaint = ['hidden', 'range', 'showFailing', 'image', 'showImage'].some((key) => key in patch);
    if (repaint && this.stage) {
      this.paint();
      // The legend shows its own change already; drawing it anew would take the focus away.
      if (!patch.hidden && !patch.range) this.showLegend();
    }
    if ('regions' in patch) this.showRegions();
    this.redraw();
  }

  showRegions() {
    this.regions.visible = this.settings.regions;
    const editing = this.tools.tool === 'edit';
    // While its corners are moved the outline is drawn with its handles.
    if (this.regions.set(this.data?.rois ?? [], editing ? null : this.draft) && this.stage) this.follow();
    this.showTools();
  }

  resize() {
    this.box.classList.toggle('short', this.size[1] < SHORT_PX);
    if (!this.stage) return;
    if (!this.camera.touched) this.stage.look(this.camera.fitted(this.info.bounds_um, ...this.size, this.inset));
    this.follow();
  }

  follow() {
    this.regions.follow(this.camera.state, ...this.size);
    if (this.edit.ring) this.edit.trace();
    if (this.keypoints.open) this.keypoints.trace();
  }

  /** Move the middle of the view, at once: the pointer leads it. */
  goTo([x, y]) {
    this.camera.touched = true;
    this.camera.stop();
    this.stage.look({ ...this.camera.state, target: [x, y, 0] });
  }

  /** Take over the points that the page holds unless the user has set others since. */
  adoptPoints(fromPage) {
    if (!fromPage || fromPage.seq < this.pointsSeq) return;
    this.pointsSeq = fromPage.seq;
    this.keypoints.set(fromPage.pairs);
  }

  problem(error) {
    if (error?.name === 'AbortError') return;
    this.lastProblem = error;
    this.status.say(error?.message || 'A part of the picture could not be drawn.');
  }

  send(event) {
    const seq = Date.now();
    this.component.setStateValue('event', { ...event, seq, slide: this.data.slide });
    return seq;
  }

  destroy() {
    this.resized.disconnect();
    this.check.destroy();
    this.tooltip.hide();
    this.transcripts?.forget();
    this.stage?.destroy();
    this.style.remove();
    this.box.remove();
  }
}
