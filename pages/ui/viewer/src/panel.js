// Right-hand panel: layers (image, cells, regions) above, legend below.

import { channelRows } from './channels.js';
import { check, count, h, slider } from './dom.js';
import { Genes } from './genes.js';
import { ICONS } from './icons.js';
import { Legend } from './legend.js';

const KIND = { he: 'H&E', stain: 'Stain' };

export class Panel {
  /** `change(patch)` is called with the settings that the user changed. */
  constructor(change) {
    this.change = change;
    this.legend = new Legend(change);
    this.genes = new Genes(change);
    this.layers = h('div', { class: 'section layers' });
    this.toggle = h('button', { type: 'button', class: 'panel-toggle', icon: ICONS.layers, 'aria-label': 'Layers and legend', 'data-tip': 'Layers and legend', onclick: () => change({ panel: !this.open }) });
    this.body = h('div', { class: 'panel-body', role: 'region', 'aria-label': 'Layers and legend' }, this.layers, this.genes.element, this.legend.element);
    this.element = h('div', { class: 'panel' }, this.toggle, this.body);
  }

  /** Redraw the controls; the legend is redrawn by `showLegend`, when colours change. */
  show(info, settings, { images, image, regions, transcripts }) {
    this.open = settings.panel;
    this.genes.show(transcripts, settings);
    this.element.classList.toggle('open', settings.panel);
    this.toggle.setAttribute('aria-expanded', String(settings.panel));
    // Rebuilding while a slider is held would take it out of the hand.
    const signature = JSON.stringify([info.slide, images, image?.name, [...settings.channels], settings.showImage, regions]);
    if (signature === this.signature) return;
    this.signature = signature;
    this.layers.replaceChildren(
      ...(images.length ? [this.imageControls(settings, images, image)] : []),
      this.cellControls(info, settings, regions));
  }

  imageControls(settings, images, image) {
    const title = (entry) => (KIND[entry.kind] && images.filter((other) => other.kind === entry.kind).length === 1 ? KIND[entry.kind] : entry.name);
    const choice = images.length > 1
      ? h('select', { 'aria-label': 'Image', onchange: (event) => this.change({ image: event.target.value, channels: new Set([0]) }) },
        ...images.map((entry) => h('option', { value: entry.name, selected: entry === image }, title(entry))))
      : h('span', {}, title(image));
    return h('div', { class: 'block' },
      h('div', { class: 'head' }, h('input', { type: 'checkbox', checked: settings.showImage, 'aria-label': 'Show the image', onchange: (event) => this.change({ showImage: event.target.checked }) }), choice),
      settings.showImage && image.kind === 'he' ? slider('Opacity', settings.imageOpacity, (imageOpacity) => this.change({ imageOpacity })) : null,
      settings.showImage && image.kind !== 'he' ? h('div', { class: 'channels' }, ...channelRows(settings, image, this.change)) : null);
  }

  cellControls(info, settings, nRegions) {
    const failing = info.n_cells - info.n_cells_kept;
    return h('div', { class: 'block' },
      h('div', { class: 'head' }, h('input', { type: 'checkbox', checked: settings.showCells, 'aria-label': 'Show the cells', onchange: (event) => this.change({ showCells: event.target.checked }) }),
        h('span', {}, 'Cells'), h('span', { class: 'number' }, count(info.n_cells))),
      slider('Opacity', settings.cellOpacity, (cellOpacity) => this.change({ cellOpacity })),
      failing ? check(`Failing QC, fainter (${count(failing)})`, settings.showFailing, (showFailing) => this.change({ showFailing }), 'Cells below the slide\'s QC thresholds are not analysed; they count for density and composition.') : null,
      info.has_polygons ? check('Outlines when near', settings.outlines, (outlines) => this.change({ outlines })) : null,
      info.has_nuclei ? check('Nuclei when near', settings.nuclei, (nuclei) => this.change({ nuclei })) : null,
      nRegions ? check(`Regions (${nRegions})`, settings.regions, (regions) => this.change({ regions })) : null);
  }
}
