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
    const parts = [];
    if (line) parts.push(h('div', { class: 'tip-head' }, h('span', { class: 'swatch', style: `--swatch:${line.colour}` }), h('strong', {}, line.text)));
    if (!details) {
      parts.push(h('div', { class: 'tip-id' }, 'Loading…'));
    } else {
      parts.push(h('div', { class: 'tip-id' }, details.id));
      const area = details.area_um2 ? ` · ${count(details.area_um2)} µm²` : '';
      parts.push(h('div', {}, `${count(details.transcripts)} transcripts · ${count(details.genes)} genes${area}`));
      if (details.top_genes.length) parts.push(h('div', { class: 'tip-genes' }, details.top_genes.map(([gene, n]) => `${gene} ${n}`).join(', ')));
      if (!details.passes_qc) parts.push(h('div', { class: 'tip-qc' }, 'Fails QC: not analysed'));
    }
    this.element.replaceChildren(...parts);
  }
}
