// What is known about the cell under the pointer: its group at once, the rest when it arrives.

import { count, h } from './dom.js';

const WAIT_MS = 70;
const KEPT = 400;

export class Tooltip {
  /** `load(cell)` resolves to what the server knows about a cell. */
  constructor(load) {
    this.load = load;
    this.known = new Map();
    this.element = h('div', { class: 'tooltip', role: 'tooltip', hidden: true });
    this.cell = -1;
  }

  hide() {
    this.cell = -1;
    clearTimeout(this.timer);
    this.element.hidden = true;
  }

  /** `line` is the colour and text that the viewer knows without asking: {colour, text}. */
  show(cell, [x, y], line, frame) {
    if (cell !== this.cell) {
      this.cell = cell;
      this.fill(line, this.known.get(cell));
      clearTimeout(this.timer);
      if (!this.known.has(cell)) this.timer = setTimeout(() => this.ask(cell, line), WAIT_MS);
    }
    this.element.hidden = false;
    const { offsetWidth: w, offsetHeight: t } = this.element;
    const left = x + 16 + w > frame.width ? x - w - 12 : x + 16;
    const top = Math.min(Math.max(4, y + 14), frame.height - t - 6);
    this.element.style.transform = `translate(${Math.round(Math.max(4, left))}px, ${Math.round(top)}px)`;
  }

  async ask(cell, line) {
    let details;
    try {
      details = await this.load(cell);
    } catch {
      return; // The line that is shown already stays; a tooltip is not worth a message.
    }
    this.known.set(cell, details);
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
    if (cell === this.cell) this.fill(line, details);
  }

  fill(line, details) {
    this.element.replaceChildren(...factsOf(line, details));
  }
}

/** What is known of a cell, as elements; `line` is what its colour says. */
function factsOf(line, details) {
  const parts = [];
  if (line) parts.push(h('div', { class: 'tip-head' }, h('span', { class: 'swatch', style: `--swatch:${line.colour}` }), h('strong', {}, line.text)));
  if (!details) {
    parts.push(h('div', { class: 'tip-id' }, 'Loading…'));
    return parts;
  }
  parts.push(h('div', { class: 'tip-id' }, details.id));
  const area = details.area_um2 ? ` · ${count(details.area_um2)} µm²` : '';
  parts.push(h('div', {}, `${count(details.transcripts)} transcripts · ${count(details.genes)} genes${area}`));
  if (details.top_genes.length) parts.push(h('div', { class: 'tip-genes' }, details.top_genes.map(([gene, n]) => `${gene} ${n}`).join(', ')));
  if (!details.passes_qc) parts.push(h('div', { class: 'tip-qc' }, 'Fails QC: not analysed'));
  return parts;
}

/** The facts of one cell that was clicked: they stay, can be marked and copied. */
export class Card {
  /** `load` as of the tooltip; `onCopied(sentence)` says what happened. */
  constructor(load, onCopied) {
    this.load = load;
    this.onCopied = onCopied;
    this.element = h('div', { class: 'card', role: 'dialog', 'aria-label': 'Cell', hidden: true });
    this.cell = -1;
  }

  async open(cell, line) {
    this.cell = cell;
    this.element.hidden = false;
    this.fill(line, null);
    try {
      const details = await this.load(cell);
      if (cell === this.cell) this.fill(line, details);
    } catch (error) {
      if (cell === this.cell) this.element.replaceChildren(h('div', { class: 'tip-id' }, error.message));
    }
  }

  fill(line, details) {
    const groups = Object.entries(details?.groups ?? {}).map(([key, name]) => h('div', { class: 'tip-group' }, h('span', {}, key.replaceAll('_', ' ')), h('span', {}, name)));
    const place = details ? h('div', { class: 'tip-id' }, `x ${count(details.xy_um[0])}  y ${count(details.xy_um[1])} µm`) : null;
    this.element.replaceChildren(
      h('div', { class: 'card-head' }, h('strong', {}, 'Cell'),
        details ? h('button', { type: 'button', class: 'link', onclick: () => this.copy(details.id) }, 'Copy id') : null,
        h('button', { type: 'button', class: 'link', 'aria-label': 'Close', onclick: () => this.close() }, '✕')),
      ...factsOf(line, details), ...groups, ...(place ? [place] : []));
  }

  async copy(id) {
    try {
      await navigator.clipboard.writeText(id);
      this.onCopied(`${id} is copied.`);
    } catch {
      // Without a secure connection browsers keep the clipboard to themselves.
      this.onCopied(id);
    }
  }

  close() {
    this.cell = -1;
    this.element.hidden = true;
  }
}
