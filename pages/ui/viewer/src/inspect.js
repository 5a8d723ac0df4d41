// Cells under the pointer: hover, click, and the same by keys.

import { valueOf } from './colour.js';
import { count } from './dom.js';
import { Tools, round } from './tools.js';

const CLICK_PX = 4;
const HOVER_PX = 6;

/** What looks at single cells and points; `Viewer` has what it looks at. */
export class Inspect extends Tools {
  /** Cell at a place (um), -1 if none is near or shown there. */
  cellAt(um) {
    const radius = Math.max(this.info.cell_radius_um * 1.2, HOVER_PX * 2 ** -this.camera.state.zoom);
    return this.grid.nearest(um[0], um[1], radius, (i) => this.stage.visible(i));
  }

  hover(event) {
    if (!this.stage?.rgba) return;
    const at = this.tools.at(event);
    const um = this.stage.toUm(at, ...this.size);
    this.status.pointer(um);
    if (this.tools.tool !== 'pan' || event.buttons || !this.settings.showCells || !this.tools.onCanvas(event)) {
      this.tooltip.hide();
      return;
    }
    const cell = this.cellAt(um);
    if (cell < 0 || cell === this.card.cell) this.tooltip.hide();
    else this.tooltip.show(cell, at, this.line(cell), { width: this.size[0], height: this.size[1] });
  }

  /** What the colour of a cell says: {colour, text}. */
  line(cell) {
    if (!this.colouring) return null;
    const { header, codes, none } = this.colouring;
    const code = codes[cell];
    const [r, g, b] = this.stage.rgba.subarray(4 * cell, 4 * cell + 3);
    const colour = `rgb(${r} ${g} ${b})`;
    if (header.kind === 'group') return { colour, text: header.categories[code] ?? 'Unassigned' };
    if (header.kind === 'gene') return { colour, text: `${header.gene}: ${Math.round(code * header.scale)}` };
    return { colour, text: `${header.name}: ${code === none ? 'not known' : count(+valueOf(header, code).toPrecision(4))}` };
  }

  click(event) {
    const at = this.tools.at(event);
    const still = this.pressed && Math.hypot(at[0] - this.pressed[0], at[1] - this.pressed[1]) < CLICK_PX;
    if (!still || !this.stage || !this.tools.onCanvas(event)) return;
    const um = this.stage.toUm(at, ...this.size);
    if (this.tools.tool === 'place') this.setPoint(um);
    if (this.tools.tool !== 'pan') return;
    this.inspect(um);
    const hit = this.settings.regions ? this.regions.hit(um) : null;
    const selected = this.regions.list.find((region) => region.selected);
    if (hit?.id !== selected?.id) this.send({ kind: 'select', roi_id: hit?.id ?? null });
  }

  inspect(um) {
    const cell = this.settings.showCells ? this.cellAt(um) : -1;
    this.tooltip.hide();
    if (cell < 0) this.card.close();
    else this.card.open(cell, this.line(cell));
    return cell;
  }

  /** By key: the cell in the middle of the view. */
  inspectMiddle() {
    const { target: [x, y] } = this.camera.state;
    if (this.inspect([x, y]) < 0) this.status.say('No cell is in the middle of the view. Arrows move it.');
  }

  /** A click of the tool that places the image. */
  setPoint(um) {
    const refused = this.keypoints.click(um.map(round));
    if (refused) this.status.say(refused);
    this.showTools();
  }
}
