// What the user chose for a slide: kept while the page's script stays loaded, so that a rerun, a
// change of page and the way back show the slide as it was left.

const KEPT = new Map();

export function settingsOf(slide, wide) {
  if (!KEPT.has(slide)) {
    KEPT.set(slide, {
      panel: wide,
      image: null,
      channels: new Set([0]),
      showImage: null, // decided by the first image: H&E is shown, a stain would turn the stage black
      imageOpacity: 1,
      looks: new Map(), // of the channels of stains
      showCells: true,
      cellOpacity: 0.85,
      showFailing: true,
      outlines: true,
      nuclei: true,
      minimap: true,
      regions: true,
      showTranscripts: true,
      allTranscripts: false,
      hiddenGenes: new Set(),
      transcriptOpacity: 0.9,
      hiddenOf: new Map(),
      rangeOf: new Map(),
    });
  }
  return KEPT.get(slide);
}

const DRAFTS = new Map();

/**
 * Drawn but unsaved regions of a slide: the last is shown (null: none), undo goes back through the
 * others; `of` is the saved region whose corners were moved.
 */
export function draftsOf(slide) {
  if (!DRAFTS.has(slide)) DRAFTS.set(slide, { seq: 0, stack: [], of: null });
  return DRAFTS.get(slide);
}

/** Take over what the page holds, unless it is older than what was drawn here since. */
export function adoptDraft(drafts, fromPage) {
  if (!fromPage || fromPage.seq < drafts.seq) return;
  drafts.seq = fromPage.seq;
  const shown = drafts.stack[drafts.stack.length - 1] ?? null;
  if (!fromPage.polygon) {
    if (shown) drafts.stack = [];
    return;
  }
  if (JSON.stringify(shown) !== JSON.stringify(fromPage.polygon)) drafts.stack.push(fromPage.polygon);
}
