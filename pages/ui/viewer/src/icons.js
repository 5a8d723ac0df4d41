// Icons of the toolbar, drawn for this viewer on a 20 x 20 grid.

const svg = (body) => `<svg viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${body}</svg>`;

export const ICONS = {
  pan: svg('<path d="M10 2.5v15M2.5 10h15M7.8 4.7 10 2.5l2.2 2.2M7.8 15.3l2.2 2.2 2.2-2.2M4.7 7.8 2.5 10l2.2 2.2M15.3 7.8l2.2 2.2-2.2 2.2"/>'),
  lasso: svg('<path d="M5.6 13.2C3.6 12.2 2.5 10.6 2.5 8.7c0-3 3.4-5.4 7.5-5.4s7.5 2.4 7.5 5.4-3.4 5.4-7.5 5.4c-.9 0-1.7-.1-2.5-.3" stroke-dasharray="2.6 2.4"/><circle cx="6.4" cy="14" r="1.5"/><path d="M6.2 15.6c.2 1-.3 1.8-1.4 2.2"/>'),
  polygon: svg('<path d="M4.2 7.2 10.4 3.4 16 8l-2.2 7.6-7.6-.6z"/><g fill="currentColor" stroke="none"><circle cx="4.2" cy="7.2" r="1.6"/><circle cx="10.4" cy="3.4" r="1.6"/><circle cx="16" cy="8" r="1.6"/><circle cx="13.8" cy="15.6" r="1.6"/><circle cx="6.2" cy="15" r="1.6"/></g>'),
  rectangle: svg('<rect x="3.2" y="5" width="13.6" height="10" rx=".6"/>'),
  edit: svg('<path d="M4 13.5 9 4.5l7 5-3.5 6.5"/><rect x="7.2" y="2.7" width="3.6" height="3.6" fill="currentColor"/><rect x="2.2" y="11.7" width="3.6" height="3.6"/><rect x="14.2" y="7.7" width="3.6" height="3.6"/>'),
  place: svg('<circle cx="5" cy="14.5" r="2"/><circle cx="15" cy="5.5" r="2" fill="currentColor"/><path d="M6.6 13 12.2 8M12.4 11V7.8H9.2"/>'),
  compare: svg('<path d="M10 2.5v15"/><rect x="3" y="4.8" width="14" height="10.4" rx="1"/><path d="M3.4 11.6 7 8M3.4 15 10 8.4M6.8 15.2l3.2-3.2" stroke-width="1.1"/>'),
  map: svg('<rect x="3" y="4" width="14" height="12" rx="1"/><rect x="9" y="8" width="5.6" height="5" fill="currentColor" stroke="none"/>'),
  undo: svg('<path d="M7.2 4 3.8 7.4l3.4 3.4"/><path d="M4 7.4h7.6a4.3 4.3 0 0 1 0 8.6H8"/>'),
  clear: svg('<path d="M4 5.8h12M8 5.6V3.9h4v1.7M5.6 5.8l.7 10.3h7.4l.7-10.3M8.6 8.8v4.4M11.4 8.8v4.4"/>'),
  plus: svg('<path d="M10 4.5v11M4.5 10h11"/>'),
  minus: svg('<path d="M4.5 10h11"/>'),
  fit: svg('<path d="M3.5 7.2V3.5h3.7M12.8 3.5h3.7v3.7M16.5 12.8v3.7h-3.7M7.2 16.5H3.5v-3.7"/>'),
  full: svg('<path d="M11.6 8.4 16.5 3.5M12.4 3.5h4.1v4.1M8.4 11.6l-4.9 4.9M7.6 16.5H3.5v-4.1"/>'),
  png: svg('<path d="M10 3v9M6.6 8.8 10 12.2l3.4-3.4M3.8 13.6v3h12.4v-3"/>'),
  svg: svg('<path d="M4.5 15.5C5 8 8.5 4.5 15.5 4.5"/><rect x="2.8" y="13.8" width="3.4" height="3.4" rx=".5"/><rect x="13.8" y="2.8" width="3.4" height="3.4" rx=".5"/>'),
  link: svg('<path d="M8.4 11.6a3.2 3.2 0 0 0 4.6 0l3-3a3.2 3.2 0 0 0-4.6-4.6l-1.2 1.2M11.6 8.4a3.2 3.2 0 0 0-4.6 0l-3 3a3.2 3.2 0 0 0 4.6 4.6l1.2-1.2"/>'),
  help: svg('<path d="M7.4 7.4a2.7 2.7 0 1 1 3.9 2.5c-.9.5-1.3 1-1.3 2"/><circle cx="10" cy="15.2" r=".5" fill="currentColor"/>'),
  layers: svg('<path d="m10 3.2 7 3.6-7 3.6-7-3.6zM3 10.2l7 3.6 7-3.6M3 13.5l7 3.6 7-3.6"/>'),
  eye: svg('<path d="M2.2 10S5 4.8 10 4.8 17.8 10 17.8 10 15 15.2 10 15.2 2.2 10 2.2 10z"/><circle cx="10" cy="10" r="2.3"/>'),
};
