// Looks of the viewer. Colours come from Streamlit's theme, which sets the --st-* variables.

export const STYLE = `
.sf { --bg: var(--st-background-color, #fff); --ink: var(--st-text-color, #1c2b33); --line: var(--st-border-color, #dce4e7);
  --accent: var(--st-primary-color, #0e7c7b); --soft: var(--st-secondary-background-color, #f3f6f7);
  --card: var(--bg); --quiet: color-mix(in srgb, var(--ink) 64%, transparent);
  --stage: color-mix(in srgb, var(--soft) 55%, var(--bg));
  position: relative; width: 100%; overflow: hidden; border: 1px solid var(--line); border-radius: var(--st-base-radius, 8px);
  background: var(--stage); color: var(--ink); font: 400 12.5px/1.4 var(--st-font, system-ui, sans-serif); isolation: isolate;
  user-select: none; -webkit-user-select: none; box-sizing: border-box; }
.sf *, .sf *::before, .sf *::after { box-sizing: border-box; }
.sf [hidden] { display: none !important; }
.sf:focus { outline: none; }
.sf:focus-visible { box-shadow: inset 0 0 0 2px var(--accent); }
.sf.black { --stage: #05070a; }
.sf:fullscreen { border: 0; border-radius: 0; }
.sf > canvas { position: absolute; inset: 0; width: 100%; height: 100%; outline: none; touch-action: none; }
.sf > svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.sf button { font: inherit; color: inherit; cursor: pointer; }
.sf button:focus-visible, .sf input:focus-visible, .sf select:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.sf button:disabled { opacity: .34; cursor: default; }

.toolbar, .panel-body, .panel-toggle { background: var(--card); border: 1px solid var(--line); border-radius: 9px;
  box-shadow: 0 1px 2px rgb(0 0 0 / .05), 0 4px 14px rgb(0 0 0 / .07); }
.toolbar { position: absolute; left: 12px; top: 12px; padding: 4px; display: flex; flex-direction: column; gap: 0; }
.toolbar .group { display: flex; flex-direction: column; gap: 2px; }
.toolbar .group + .group { border-top: 1px solid var(--line); margin-top: 4px; padding-top: 4px; }
.tool { position: relative; width: 32px; height: 28px; padding: 0; border: 0; border-radius: 6px; background: transparent; display: grid; place-items: center; }
.tool:hover:not(:disabled) { background: color-mix(in srgb, var(--ink) 8%, transparent); }
.tool[aria-pressed="true"] { background: var(--accent); color: #fff; }
.tool::after, .panel-toggle::after { content: attr(data-tip); position: absolute; left: calc(100% + 10px); top: 50%; transform: translateY(-50%); padding: 3px 8px; border-radius: 5px;
  background: var(--ink); color: var(--bg); font-size: 12px; white-space: nowrap; opacity: 0; pointer-events: none; transition: opacity .12s .25s; z-index: 6; }
.panel-toggle::after { left: auto; right: calc(100% + 10px); }
.tool:hover::after, .tool:focus-visible::after, .panel-toggle:hover::after, .panel-toggle:focus-visible::after { opacity: 1; }
.short .tool { width: 28px; height: 20px; }
.toolbar .group { gap: 1px; }

.panel { position: absolute; right: 12px; top: 12px; bottom: 12px; width: 216px; pointer-events: none; display: flex; flex-direction: column; align-items: flex-end; gap: 6px; }
.panel > * { pointer-events: auto; }
.panel-toggle { position: relative; width: 34px; height: 34px; display: grid; place-items: center; padding: 0; flex: none; }
.panel-body { display: none; width: 100%; min-height: 0; overflow: hidden auto; overscroll-behavior: contain; scrollbar-width: thin; }
.panel.open .panel-body { display: block; }
.panel.open .panel-toggle { color: var(--accent); }
.section { padding: 9px 11px; }
.section:empty { display: none; }
.section + .section { border-top: 1px solid var(--line); }
.block + .block { margin-top: 9px; padding-top: 9px; border-top: 1px solid var(--line); }
.head { display: flex; align-items: center; gap: 7px; font-weight: 600; min-height: 22px; }
.head select { flex: 1; min-width: 0; font: inherit; font-weight: 600; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 5px; padding: 2px 4px; }
.number { margin-left: auto; color: var(--quiet); font-weight: 400; font-variant-numeric: tabular-nums; }
.slider { display: flex; align-items: center; gap: 8px; margin-top: 4px; color: var(--quiet); }
.slider input { flex: 1; min-width: 0; height: 16px; margin: 0; accent-color: var(--accent); }
.check { display: flex; align-items: center; gap: 7px; margin-top: 4px; cursor: pointer; }
.check span { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.sf input[type=checkbox] { margin: 0; width: 14px; height: 14px; flex: none; accent-color: var(--accent); cursor: pointer; }
.channels { margin-top: 2px; }
.channel .check { flex: 1; min-width: 0; margin: 0; font-weight: 400; }
.channel .slider span { width: 44px; }
.colour { width: 22px; height: 18px; padding: 0; border: 1px solid var(--line); border-radius: 4px; background: none; cursor: pointer; }

.legend .head > span:first-child { text-transform: capitalize; }
.legend .head em { font-style: italic; }
.all { margin-left: auto; display: flex; gap: 8px; font-weight: 400; }
.link { border: 0; background: none; padding: 0 1px; color: var(--accent) !important; border-radius: 3px; }
.link:hover { text-decoration: underline; }
.filter { width: 100%; margin: 4px 0 2px; padding: 3px 7px; font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 5px; }
.groups { list-style: none; margin: 3px -5px 0; padding: 0; }
.group-toggle { display: flex; align-items: center; gap: 8px; width: 100%; padding: 2.5px 5px; border: 0; border-radius: 5px; background: none; text-align: left; }
.group-toggle:hover { background: color-mix(in srgb, var(--ink) 7%, transparent); }
.group-toggle .name { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.swatch { width: 11px; height: 11px; border-radius: 3px; flex: none; background: var(--swatch); border: 1.5px solid var(--swatch); }
.group-toggle[aria-pressed="false"] .swatch { background: transparent; }
.group-toggle[aria-pressed="false"] .name, .group-toggle[aria-pressed="false"] .number { opacity: .5; }
.ramp-row { display: flex; gap: 4px; margin-top: 5px; }
.ramp { flex: 1; height: 10px; border-radius: 2px; }
.zero { width: 12px; height: 10px; border-radius: 2px; }
.note { margin: 5px 0 0; color: var(--quiet); }
.range { position: relative; height: 18px; margin-top: 2px; }
.range::before { content: ""; position: absolute; left: 0; right: 0; top: 8px; height: 2px; border-radius: 1px; background: var(--line); }
.range input { position: absolute; inset: 0; width: 100%; height: 18px; margin: 0; background: none; pointer-events: none; appearance: none; -webkit-appearance: none; }
.range input::-webkit-slider-thumb { pointer-events: auto; appearance: none; -webkit-appearance: none; width: 13px; height: 13px; border-radius: 50%; border: 2px solid var(--accent); background: var(--bg); cursor: ew-resize; }
.range input::-moz-range-thumb { pointer-events: auto; width: 9px; height: 9px; border-radius: 50%; border: 2px solid var(--accent); background: var(--bg); cursor: ew-resize; }
/* Both sliders fill the row: only the one thumb shows which has the focus. */
.range input:focus-visible { outline: none; }
.range input:focus-visible::-webkit-slider-thumb { box-shadow: 0 0 0 2px var(--bg), 0 0 0 4px var(--accent); }
.range input:focus-visible::-moz-range-thumb { box-shadow: 0 0 0 2px var(--bg), 0 0 0 4px var(--accent); }
.bounds { display: flex; align-items: center; justify-content: space-between; gap: 6px; margin-top: 1px; }
.bound { width: 66px; font: inherit; color: inherit; background: var(--bg); border: 1px solid var(--line); border-radius: 5px; padding: 1px 4px; font-variant-numeric: tabular-nums; }

.scale { position: absolute; left: 14px; bottom: 11px; display: flex; align-items: flex-end; gap: 14px; pointer-events: none; padding: 4px 9px 5px; border-radius: 6px;
  background: color-mix(in srgb, var(--bg) 78%, transparent); }
.black .scale { --ink: #eef2f4; background: rgb(5 7 10 / .6); color: var(--ink); }
.black .position { color: rgb(238 242 244 / .75); }
.bar-box { display: grid; justify-items: center; font-weight: 600; }
.bar { height: 5px; margin-top: 1px; border: 2px solid var(--ink); border-top: 0; }
.position { color: var(--quiet); font-variant-numeric: tabular-nums; white-space: pre; min-width: 0; }
.position:empty { display: none; }
.progress { position: absolute; inset: 0 0 auto; height: 3px; overflow: hidden; z-index: 5; }
.progress::after { content: ""; position: absolute; inset: 0; width: 32%; background: var(--accent); border-radius: 2px; animation: sf-run 1.1s ease-in-out infinite; }
@keyframes sf-run { from { transform: translateX(-110%); } to { transform: translateX(420%); } }
.notice, .hint { position: absolute; left: 50%; transform: translateX(-50%); padding: 5px 12px; border-radius: 14px; pointer-events: none; text-align: center; width: max-content; max-width: min(60%, 460px); z-index: 4; }
.hint { top: 14px; background: var(--card); border: 1px solid var(--line); color: var(--quiet); }
.notice { overflow-wrap: anywhere; user-select: text; bottom: 18px; background: var(--ink); color: var(--bg); }
.cover { position: absolute; inset: 0; display: grid; place-items: center; background: color-mix(in srgb, var(--bg) 82%, transparent); z-index: 8; }
.message { max-width: 420px; padding: 20px 24px; text-align: center; background: var(--bg); border: 1px solid var(--line); border-radius: 10px; box-shadow: 0 6px 24px rgb(0 0 0 / .12); user-select: text; }
.message strong { font-size: 14.5px; }
.message p { margin: 6px 0 0; color: var(--quiet); font-size: 13.5px; }
.retry { margin-top: 12px; padding: 5px 14px; border: 1px solid var(--accent); border-radius: 6px; background: var(--accent); color: #fff !important; }

.tooltip { position: absolute; left: 0; top: 0; max-width: 250px; padding: 7px 10px; border-radius: 7px; pointer-events: none; z-index: 7;
  background: var(--bg); border: 1px solid var(--line); box-shadow: 0 3px 14px rgb(0 0 0 / .16); }
.card { position: absolute; left: 58px; top: 12px; width: 236px; padding: 8px 11px; border-radius: 9px; z-index: 5; user-select: text; -webkit-user-select: text;
  background: var(--bg); border: 1px solid var(--line); box-shadow: 0 3px 14px rgb(0 0 0 / .16); }
.card-head { display: flex; align-items: center; gap: 10px; margin-bottom: 3px; }
.card-head strong { margin-right: auto; }
.tip-group { display: flex; justify-content: space-between; gap: 10px; }
.tip-group span:first-child { color: var(--quiet); text-transform: capitalize; }
.tip-group span:last-child { text-align: right; }
.minimap { position: absolute; left: 58px; bottom: 48px; border: 1px solid var(--line); border-radius: 7px; overflow: hidden; background: var(--stage); box-shadow: 0 1px 2px rgb(0 0 0 / .05), 0 4px 14px rgb(0 0 0 / .12); cursor: pointer; touch-action: none; }
.minimap canvas { width: 100%; height: 100%; display: block; }
.minimap .frame { position: absolute; border: 2px solid var(--accent); border-radius: 2px; pointer-events: none; box-shadow: 0 0 0 400px color-mix(in srgb, var(--stage) 58%, transparent); }
.short .minimap { display: none; }
.curtain { position: absolute; top: 0; bottom: 0; width: 24px; margin-left: -12px; cursor: ew-resize; touch-action: none; z-index: 2; outline: none; }
.curtain::before { content: ""; position: absolute; left: 11px; top: 0; bottom: 0; width: 2px; background: var(--accent); box-shadow: 0 0 0 1px rgb(255 255 255 / .6); }
.curtain::after { content: "↔"; position: absolute; left: 0; top: 50%; width: 24px; height: 24px; margin-top: -12px; border-radius: 50%; display: grid; place-items: center; background: var(--accent); color: #fff; font-size: 13px; }
.curtain:focus-visible::after { box-shadow: 0 0 0 3px var(--bg), 0 0 0 5px var(--accent); }
line.keypoint { stroke: #ffd400; stroke-width: 2px; paint-order: stroke; filter: drop-shadow(0 0 1px #000); }
circle.keypoint { fill: none; stroke: #ffd400; stroke-width: 2.5px; filter: drop-shadow(0 0 1px #000); }
circle.keypoint.to { fill: #ffd400; }
text.keypoint { fill: #ffd400; stroke: #000; stroke-width: 3px; paint-order: stroke; font: 700 13px var(--st-font, system-ui, sans-serif); }
.tip-head { display: flex; align-items: center; gap: 7px; }
.tip-id { color: var(--quiet); font-variant-numeric: tabular-nums; overflow: hidden; text-overflow: ellipsis; }
.tip-genes { color: var(--quiet); font-style: italic; }
.tip-qc { color: var(--st-orange-text-color, #b45309); }

path.region { fill: color-mix(in srgb, var(--region, transparent) 9%, transparent); stroke: var(--region); stroke-width: 1.8px; stroke-linejoin: round; }
path.region.halo { fill: none; stroke: rgb(255 255 255 / .75); stroke-width: 3.6px; }
path.region.selected { fill: color-mix(in srgb, var(--region, transparent) 20%, transparent); stroke-width: 3px; }
path.region.selected.halo { fill: none; stroke: #fff; stroke-width: 6.5px; }
/* The region's colour alone is unreadable on dark: it only tints the theme's own ink. */
text.region { fill: color-mix(in srgb, var(--region) 30%, var(--ink)); stroke: var(--bg); stroke-width: 4px; stroke-linejoin: round; paint-order: stroke; font: 600 13px var(--st-font, system-ui, sans-serif); }
text.region.selected { fill: var(--ink); }
.draft, .sketch { fill: color-mix(in srgb, var(--accent) 16%, transparent); stroke: var(--accent); stroke-width: 2px; stroke-dasharray: 6 4; stroke-linejoin: round; }
.draft.halo { fill: none; stroke: rgb(255 255 255 / .8); stroke-width: 5px; stroke-dasharray: none; }
.corner.chosen { fill: var(--accent) !important; }
.corner { fill: var(--bg); stroke: var(--accent); stroke-width: 2px; }
@media (prefers-reduced-motion: reduce) { .progress::after { animation-duration: 4s; } .tool::after { transition: none; } }
`;
