// Legend: groups with toggles, or the ramp of a gene.

import { NOTHING, expressionRamp, rampGradient } from './colour.js';
import { count, h, short } from './dom.js';
import { Range } from './range.js';

const FILTER_FROM = 16;

export class Legend {
  /** `change({hidden})` is called with the set of hidden codes (-1: unassigned), `change({range})` with values. */
  constructor(change) {
    this.change = change;
    this.range = new Range((range) => change({ range }));
    this.element = h('div', { class: 'section legend' });
    this.hidden = new Set();
  }

  show(colouring, { hidden, range }, dark) {
    this.hidden = hidden;
    this.colouring = colouring;
    this.filter = '';
    if (!colouring) this.element.replaceChildren();
    else if (colouring.header.kind === 'group') this.showGroups(colouring.header);
    else this.showRamp(colouring.header, range, dark);
  }

  showRamp(header, range, dark) {
    const zero = dark ? NOTHING.dark : NOTHING.light;
    const gene = header.kind === 'gene';
    const title = gene ? h('em', {}, header.gene) : h('span', {}, header.name);
    const empty = gene ? 'No cell has a transcript of this gene.' : 'It is not known of any cell of this slide.';
    this.element.replaceChildren(
      h('div', { class: 'head' }, title, h('span', { class: 'number' }, `${count(gene ? header.n_positive : header.n_known)} cells`)),
      h('div', { class: 'ramp-row' },
        gene ? h('span', { class: 'zero', title: 'no transcript', style: `background: rgb(${zero.join(' ')})` }) : null,
        h('span', { class: 'ramp', style: `background: ${rampGradient(expressionRamp(dark))}` })),
      ...((gene ? header.n_positive : header.n_known) ? this.range.controls(header, range) : []),
      h('p', { class: 'note' }, header.max > 0 || header.n_known ? `${header.unit || header.name}; highest ${count(+header.max.toPrecision(4))}` : empty));
  }

  showGroups(header) {
    this.rows = header.categories.map((name, code) => this.row(code, name, header.colours[code], header.cells[code]));
    if (header.n_unassigned) this.rows.push(this.row(-1, 'Unassigned', header.unassigned, header.n_unassigned));
    const search = header.categories.length >= FILTER_FROM
      ? h('input', { type: 'search', class: 'filter', placeholder: 'Find a group', 'aria-label': 'Find a group', oninput: (event) => this.find(event.target.value) })
      : null;
    const every = header.categories.map((_, code) => code).concat(-1);
    this.element.replaceChildren(
      h('div', { class: 'head' }, h('span', {}, header.key.replaceAll('_', ' ')),
        h('span', { class: 'all' },
          h('button', { type: 'button', class: 'link', onclick: () => this.set(new Set()) }, 'All'),
          h('button', { type: 'button', class: 'link', onclick: () => this.set(new Set(every)) }, 'None'))),
      ...(search ? [search] : []),
      h('ul', { class: 'groups' }, ...this.rows.map((entry) => entry.element)),
      ...(header.note ? [h('p', { class: 'note' }, header.note)] : []));
    this.mark();
  }

  row(code, name, colour, cells) {
    const button = h('button', {
      type: 'button', class: 'group-toggle', title: `${name}: ${count(cells)} cells. Click to hide or show, double-click to show it alone.`,
      onclick: (event) => (event.detail > 1 ? this.only(code) : this.flip(code)),
    }, h('span', { class: 'swatch', style: `--swatch:${colour}` }), h('span', { class: 'name' }, name), h('span', { class: 'number' }, short(cells)));
    return { code, name: name.toLowerCase(), button, element: h('li', {}, button) };
  }

  flip(code) {
    const hidden = new Set(this.hidden);
    if (!hidden.delete(code)) hidden.add(code);
    this.set(hidden);
  }

  only(code) {
    const others = this.rows.map((entry) => entry.code).filter((other) => other !== code);
    this.set(new Set(others));
  }

  set(hidden) {
    this.hidden = hidden;
    this.mark();
    this.change({ hidden });
  }

  mark() {
    this.rows.forEach(({ code, button }) => button.setAttribute('aria-pressed', String(!this.hidden.has(code))));
  }

  find(text) {
    const wanted = text.trim().toLowerCase();
    this.rows.forEach(({ name, element }) => { element.hidden = !name.includes(wanted); });
  }
}
