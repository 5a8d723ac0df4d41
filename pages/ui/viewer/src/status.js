// Scale bar, pointer coordinates, loading bar, notices and the message that covers a broken view.

import { count, h } from './dom.js';

const BAR_PX = 120;
/** Time to read a notice: some, and some for each letter. */
const NOTICE_MS = 3000;
const LETTER_MS = 55;

/** Longest round length (1, 2 or 5 times a power of ten um) that fits the bar. */
export function barLength(zoom) {
  const most = BAR_PX / 2 ** zoom;
  const power = 10 ** Math.floor(Math.log10(most));
  const um = [5, 2, 1].map((k) => k * power).find((v) => v <= most);
  const label = um >= 1000 ? `${+(um / 1000).toPrecision(3)} mm` : um >= 1 ? `${count(um)} µm` : `${+(um * 1000).toPrecision(3)} nm`;
  return { px: um * 2 ** zoom, label };
}

export class Status {
  constructor() {
    this.bar = h('div', { class: 'bar' });
    this.barLabel = h('span', {});
    this.position = h('span', { class: 'position' });
    this.scale = h('div', { class: 'scale' }, h('div', { class: 'bar-box' }, this.barLabel, this.bar), this.position);
    this.progress = h('div', { class: 'progress', role: 'progressbar', 'aria-label': 'Loading', hidden: true });
    this.notice = h('div', { class: 'notice', role: 'status', hidden: true });
    this.hint = h('div', { class: 'hint', hidden: true });
    this.cover = h('div', { class: 'cover', hidden: true });
    this.elements = [this.scale, this.hint, this.notice, this.progress, this.cover];
  }

  zoom(zoom) {
    const { px, label } = barLength(zoom);
    this.bar.style.width = `${px}px`;
    if (this.barLabel.textContent !== label) this.barLabel.textContent = label;
  }

  pointer(point) {
    this.position.textContent = point ? `x ${count(Math.round(point[0] * 10) / 10)}  y ${count(Math.round(point[1] * 10) / 10)} µm` : '';
  }

  loading(what) {
    this.progress.hidden = !what;
    if (what) this.progress.setAttribute('aria-valuetext', what);
  }

  /** A sentence that goes away by itself. */
  say(sentence) {
    this.notice.textContent = sentence;
    this.notice.hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.notice.hidden = true; }, NOTICE_MS + LETTER_MS * sentence.length);
  }

  /** What to do with the tool at hand; empty hides it. */
  advise(sentence) {
    this.hint.textContent = sentence;
    this.hint.hidden = !sentence;
  }

  /** Cover the view: nothing below can be used until it is put right. */
  block(title, sentence, action) {
    this.loading('');
    this.cover.replaceChildren(h('div', { class: 'message', role: 'alert' },
      h('strong', {}, title), h('p', {}, sentence),
      action ? h('button', { type: 'button', class: 'retry', onclick: () => { this.unblock(); action(); } }, 'Try again') : null));
    this.cover.hidden = false;
  }

  unblock() {
    this.cover.hidden = true;
  }
}
