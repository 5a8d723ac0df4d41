// Channels of a stain: colour, black and white point, opacity of each; the tiles stay as they are.

import { BitmapLayer } from '@deck.gl/layers';

import { parseHex } from './colour.js';
import { check, h, slider } from './dom.js';

const COLOURS = ['#5B8DFF', '#3DDC84', '#FF5C8A', '#FFC145', '#B58CFF', '#4DD9E8'];
const LEAST_RANGE = 0.02;

/** What the user set for a channel, or how it begins: one channel alone is grey. */
export function lookOf(settings, image, index) {
  const key = `${image.name}/${index}`;
  if (!settings.looks.has(key)) {
    const colour = image.channels.length > 1 ? COLOURS[index % COLOURS.length] : '#FFFFFF';
    settings.looks.set(key, { colour, black: 0, white: 1, opacity: 1 });
  }
  return settings.looks.get(key);
}

const BLOCK = 'layout(std140) uniform contrastUniforms {\n  vec3 offset;\n  float gain;\n  vec3 most;\n} contrast;\n';
const contrast = {
  name: 'contrast',
  vs: BLOCK,
  fs: BLOCK,
  uniformTypes: { offset: 'vec3<f32>', gain: 'f32', most: 'vec3<f32>' },
  // Runs after the tint, so the black point is tinted as well.
  inject: { 'fs:DECKGL_FILTER_COLOR': 'color.rgb = clamp((color.rgb - contrast.offset) * contrast.gain, vec3(0.0), contrast.most);' },
};

/** A grey tile in the colour of its channel, stretched between its black and white point. */
export class ChannelBitmap extends BitmapLayer {
  getShaders() {
    const shaders = super.getShaders();
    return { ...shaders, modules: [...shaders.modules, contrast] };
  }

  draw(options) {
    const { black, white } = this.props.look;
    const most = this.props.tintColor.slice(0, 3).map((value) => value / 255);
    this.state.model?.shaderInputs.setProps({ contrast: { offset: most.map((value) => value * black), gain: 1 / Math.max(LEAST_RANGE, white - black), most } });
    super.draw(options);
  }
}
ChannelBitmap.layerName = 'ChannelBitmap';
ChannelBitmap.defaultProps = { look: { type: 'object', value: { black: 0, white: 1 } } };

export const tintOf = (look) => parseHex(look.colour);

/** Rows of the panel: one per channel, its controls below while it is shown. */
export function channelRows(settings, image, change) {
  const toggle = (index, on) => {
    const channels = new Set(settings.channels);
    if (on) channels.add(index);
    else channels.delete(index);
    change({ channels });
  };
  return image.channels.map(({ name }, index) => {
    const look = lookOf(settings, image, index);
    const set = (patch) => change({ looks: new Map(settings.looks).set(`${image.name}/${index}`, { ...lookOf(settings, image, index), ...patch }) });
    const label = name || `Channel ${index + 1}`;
    const on = settings.channels.has(index);
    const row = check(label, on, (value) => toggle(index, value), name);
    const colour = h('input', { type: 'color', class: 'colour', 'aria-label': `Colour of ${label}`, oninput: (event) => set({ colour: event.target.value }) });
    colour.value = look.colour.toLowerCase();
    return h('div', { class: 'channel' }, h('div', { class: 'head' }, row, colour), ...(on ? [
      slider('Black', look.black, (black) => set({ black })),
      slider('White', look.white, (white) => set({ white })),
      slider('Opacity', look.opacity, (opacity) => set({ opacity }))] : []));
  });
}
