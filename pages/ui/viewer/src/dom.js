// Building elements without markup strings: whatever a slide's names hold stays text.

/** h('button', {class: 'x', onclick: f}, 'text', child) */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  Object.entries(properties).forEach(([key, value]) => {
    if (value === undefined || value === null || value === false) return;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'icon') element.innerHTML = value; // our own drawings only (icons.js)
    else if (key in element && typeof value !== 'string') element[key] = value;
    else element.setAttribute(key, value === true ? '' : value);
  });
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const plain = new Intl.NumberFormat('en-GB');

/** 20000 -> 20,000 */
export const count = (value) => plain.format(value);

/** Number with few digits: 0.5, 12, 1.2k */
export function short(value) {
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (value >= 1e5) return `${+(value / 1e3).toPrecision(3)}k`;
  return plain.format(value < 100 ? +value.toPrecision(3) : Math.round(value));
}

/** Slider from 0 to 1. */
export function slider(label, value, change) {
  return h('label', { class: 'slider' }, h('span', {}, label),
    h('input', { type: 'range', min: '0', max: '100', value: String(Math.round(value * 100)), 'aria-label': label, oninput: (event) => change(event.target.value / 100) }));
}

export function check(label, on, change, title) {
  return h('label', { class: 'check', title }, h('input', { type: 'checkbox', checked: on, onchange: (event) => change(event.target.checked) }), h('span', {}, label));
}
