// Range of values that the colours span: two sliders on one track, and their numbers to type.

import { check, h } from './dom.js';

const STEPS = 500;

/** How a value's range begins: genes from zero, others between their outer percentiles. */
export const firstRange = (header) => ({ low: header.low ?? 0, high: header.high, hide: false });

export class Range {
  /** `change({low, high, hide})` is called while a slider moves. */
  constructor(change) {
    this.change = change;
  }

  /** Controls for a colouring by value, beginning with `range`. */
  controls(header, range) {
    this.header = header;
    this.range = range;
    const [least, most] = [header.min ?? 0, Math.max(header.max, header.high)];
    const step = header.whole ?? header.kind === 'gene' ? 1 : (most - least) / STEPS || 1;
    const slide = (end, label) => {
      const input = h('input', { type: 'range', min: String(least), max: String(most), step: String(step), 'aria-label': label, oninput: (event) => this.set(end, Number(event.target.value)) });
      input.value = String(range[end]);
      return input;
    };
    const number = (end, label) => {
      const input = h('input', { type: 'number', class: 'bound', step: 'any', 'aria-label': label, title: label, onchange: (event) => this.set(end, Number(event.target.value)) });
      input.value = this.text(range[end]);
      return input;
    };
    this.sliders = { low: slide('low', 'Lowest colour at'), high: slide('high', 'Highest colour at') };
    this.numbers = { low: number('low', 'Value of the lowest colour'), high: number('high', 'Value of the highest colour') };
    return [
      h('div', { class: 'range' }, this.sliders.low, this.sliders.high),
      h('div', { class: 'bounds' }, this.numbers.low, h('button', { type: 'button', class: 'link', onclick: () => this.reset() }, 'Reset'), this.numbers.high),
      check('Hide cells below', range.hide, (hide) => this.tell({ hide }), 'Cells under the lowest value are not drawn.'),
    ];
  }

  text(value) {
    return String(+value.toPrecision(4));
  }

  set(end, value) {
    if (!Number.isFinite(value)) return;
    const other = end === 'low' ? 'high' : 'low';
    const patch = { [end]: value };
    // The ends push each other along: low stays below high.
    if (end === 'low' ? value > this.range.high : value < this.range.low) patch[other] = value;
    this.tell(patch);
  }

  reset() {
    this.tell(firstRange(this.header));
  }

  tell(patch) {
    this.range = { ...this.range, ...patch };
    ['low', 'high'].forEach((end) => {
      this.sliders[end].value = String(this.range[end]);
      this.numbers[end].value = this.text(this.range[end]);
    });
    this.change(this.range);
  }
}

