// Legend of the transcripts: each gene with its colour and a toggle, and how they are shown now.

import { count, h, slider } from './dom.js';
import { GENE_COLOURS, MOST_MOLECULES } from './transcripts.js';

export class Genes {
  /** `change(patch)` is called with the settings that the user changed. */
  constructor(change) {
    this.change = change;
    this.element = h('div', { class: 'section genes' });
    this.note = h('p', { class: 'note' });
  }

  show(transcripts, settings) {
    const { info, genes } = transcripts;
    this.note.textContent = this.sentence(transcripts, settings);
    const signature = JSON.stringify([info.slide, genes, settings.showTranscripts, settings.allTranscripts, [...settings.hiddenGenes]]);
    if (signature === this.signature) return;
    this.signature = signature;
    if (!info.has_transcripts) {
      this.element.replaceChildren();
      return;
    }
    const on = settings.showTranscripts;
    this.element.replaceChildren(
      h('div', { class: 'head' }, h('input', { type: 'checkbox', checked: on, 'aria-label': 'Show transcripts', onchange: (event) => this.change({ showTranscripts: event.target.checked }) }), h('span', {}, 'Transcripts')),
      ...(on && transcripts.available ? this.controls(genes, settings) : []),
      this.note);
  }

  controls(genes, settings) {
    const opacity = slider('Opacity', settings.transcriptOpacity, (transcriptOpacity) => this.change({ transcriptOpacity }));
    if (!genes.length) {
      const box = h('input', { type: 'checkbox', checked: settings.allTranscripts, onchange: (event) => this.change({ allTranscripts: event.target.checked }) });
      const all = h('label', { class: 'check' }, box, h('span', {}, 'Density of all transcripts'));
      return settings.allTranscripts ? [all, opacity] : [all];
    }
    return [h('ul', { class: 'groups' }, ...genes.map((gene, i) => this.row(gene, GENE_COLOURS[i], settings))), opacity];
  }

  row(gene, colour, settings) {
    const flip = () => {
      const hiddenGenes = new Set(settings.hiddenGenes);
      if (!hiddenGenes.delete(gene)) hiddenGenes.add(gene);
      this.change({ hiddenGenes });
    };
    return h('li', {}, h('button', { type: 'button', class: 'group-toggle', 'aria-pressed': String(!settings.hiddenGenes.has(gene)), title: `${gene}: click to hide or show`, onclick: flip },
      h('span', { class: 'swatch', style: `--swatch:${colour}` }), h('em', { class: 'name' }, gene)));
  }

  sentence({ available, info, genes, mode, inView, density }, settings) {
    if (!info.has_transcripts || !settings.showTranscripts) return '';
    if (!available) return 'This slide was read by an earlier version. Run “spatialformer slides rebuild” to see its transcripts.';
    if (mode === 'many') return `${count(inView)} transcripts in view, at most ${count(MOST_MOLECULES)} are drawn one by one: zoom in or choose fewer genes.`;
    if (mode === 'molecules') return 'Every dot is one transcript.';
    if (mode === 'density') return `Per bin of ${count(density.maps[0].binUm)} µm${genes.length ? '; zoom in for single transcripts' : ''}.`;
    return genes.length || settings.allTranscripts ? 'Loading…' : 'Choose up to six genes above the picture.';
  }
}
