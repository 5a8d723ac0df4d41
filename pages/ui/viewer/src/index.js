// Entry of the Streamlit component: called again at every rerun with the same parent element.

import { Viewer } from './viewer.js';

const LIVE = new Map();

export default function mount(component) {
  const { key, parentElement } = component;
  let viewer = LIVE.get(key);
  if (viewer?.root !== parentElement) {
    viewer?.destroy();
    viewer = new Viewer(parentElement);
    LIVE.set(key, viewer);
  }
  viewer.update(component);
  return () => {
    if (LIVE.get(key) === viewer) LIVE.delete(key);
    viewer.destroy();
  };
}
