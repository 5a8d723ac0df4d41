// Toolbar: every tool is a button that can be focused, named and reached by a key.

import { h } from './dom.js';
import { ICONS } from './icons.js';

const TOOLS = [
  ['pan', 'Move and select', 'Esc'],
  ['lasso', 'Lasso', 'L'],
  ['polygon', 'Polygon', 'P'],
  ['rectangle', 'Rectangle', 'R'],
  ['edit', 'Move corners', 'E'],
  ['place', 'Place the image by pairs of points', 'K'],
];
const ACTIONS = [
  ['undo', 'Undo', 'Ctrl+Z'],
  ['clear', 'Discard the drawn region', 'Del'],
];
const VIEW = [
  ['plus', 'Zoom in', '+'],
  ['minus', 'Zoom out', '−'],
  ['fit', 'Show the whole slide', '0'],
  ['compare', 'Check the alignment: swipe, blink', 'A'],
  ['map', 'Overview', 'M'],
  ['full', 'Full screen', 'F'],
];
const SHARE = [
  ['png', 'Save picture (PNG)', 'S'],
  ['svg', 'Save picture with vectors (SVG)', 'V'],
  ['link', 'Copy a link to this view', 'C'],
  ['help', 'Keys', '?'],
];

export class Toolbar {
  /** `press(name)` is called with the name of the button. */
  constructor(press) {
    this.buttons = new Map();
    const group = (label, entries, toggles) => h('div', { class: 'group', role: 'group', 'aria-label': label },
      ...entries.map(([name, title, key]) => {
        const button = h('button', {
          type: 'button', class: 'tool', icon: ICONS[name], 'data-tool': name, 'data-tip': `${title}  (${key})`,
          'aria-label': `${title} (${key})`, 'aria-pressed': toggles ? 'false' : undefined, onclick: () => press(name),
        });
        this.buttons.set(name, button);
        return button;
      }));
    this.element = h('div', { class: 'toolbar', role: 'toolbar', 'aria-label': 'Viewer tools' },
      group('Tools', TOOLS, true), group('Drawing', ACTIONS, false), group('View', VIEW, false), group('Share', SHARE, false));
  }

  show({ tool, canEdit, canPlace, canUndo, canClear }) {
    TOOLS.forEach(([name]) => this.buttons.get(name).setAttribute('aria-pressed', String(name === tool)));
    this.buttons.get('edit').disabled = !canEdit;
    this.buttons.get('place').disabled = !canPlace;
    this.buttons.get('compare').disabled = !canPlace;
    this.buttons.get('undo').disabled = !canUndo;
    this.buttons.get('clear').disabled = !canClear;
  }
}

const KEYS = { l: 'lasso', p: 'polygon', r: 'rectangle', e: 'edit', k: 'place', a: 'compare', m: 'map', i: 'inspect', Escape: 'pan', '+': 'plus', '=': 'plus', '-': 'minus', 0: 'fit', f: 'full', s: 'png', v: 'svg', c: 'link', '?': 'help', z: 'undo', Delete: 'clear', Backspace: 'back' };
const ARROWS = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] };

/** What a key means: {press: name}, {pan: [x, y]} or null. Keys typed into fields mean nothing. */
export function keyMeaning(event) {
  const field = event.composedPath()[0];
  const typing = field.tagName === 'SELECT' || (field.tagName === 'INPUT' && field.type !== 'checkbox');
  if (typing || event.altKey) return null;
  if (event.ctrlKey || event.metaKey) return event.key.toLowerCase() === 'z' ? { press: 'undo' } : null;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (KEYS[key]) return { press: KEYS[key] };
  return ARROWS[key] ? { pan: ARROWS[key] } : null;
}
