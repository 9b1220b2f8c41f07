// Decodes the photo-trained networks: who is in the frame, and 33 points of that person.
// The twin of perception/blazepose: detector.py and landmarks.py.

import { crop, pixels, uprightCrop } from "./crops.js";

const DETECTOR_SIZE = 224, SIZE = 256, PADDING = 1.25;
const GRIDS = [[28, 2], [14, 2], [7, 6]];
const TILE = 0.6; // side of a tile, of the frame's longer side
const LEAST_SCORE = 0.5, PRESENT = 0.5;
const NUM_LANDMARKS = 33, NEXT_MIDDLE = 33, NEXT_TOP = 34, NUM_POINTS = 39;
const REFINED = 7, LEAST_HEAT = 0.5;

const chance = (logit) => 1 / (1 + Math.exp(-Math.max(-50, Math.min(50, logit))));

const ANCHORS = GRIDS.flatMap(([cells, number]) => {
  const found = [];
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      for (let k = 0; k < number; k++) found.push([(column + 0.5) / cells, (row + 0.5) / cells]);
    }
  }
  return found;
});

export class Landmarker {
  // `detect` and `look` run the two networks: (Float32Array) -> list of outputs.
  constructor(detect, look, cutter) {
    Object.assign(this, { detect, look, cutter });
    this.next = null;
    this.looks = 0;
  }

  // The person of the frame before, else the surest that the detector finds; null if nobody.
  async see(frame) {
    const marks = (await this.followed(frame)) ?? (await this.found(frame));
    this.next = marks?.next ?? null;
    return marks;
  }

  // One look at nothing, for its time.
  time() {
    return this.look(new Float32Array(3 * SIZE * SIZE));
  }

  async followed(frame) {
    if (this.next === null || !sound(this.next, frame)) return null;
    const marks = await this.marks(frame, this.next);
    return marks.presence >= PRESENT ? marks : null;
  }

  async found(frame) {
    const window = await this.find(frame);
    const first = window && (await this.marks(frame, window));
    if (!first || first.presence < PRESENT) return null;
    const marks = sound(first.next, frame) ? await this.marks(frame, first.next) : first;
    return marks.presence >= PRESENT ? marks : null;
  }

  // Where the surest person is: in the whole frame, else in one tile of it, the next tile in turn.
  async find(frame) {
    const longer = Math.max(frame.width, frame.height), side = TILE * longer;
    const whole = await this.detected(frame, crop(frame.width / 2, frame.height / 2, longer));
    if (whole || longer <= DETECTOR_SIZE) return whole;
    const across = middles(frame.width, side), down = middles(frame.height, side);
    const turn = this.looks++ % (across.length * down.length);
    const x = across[turn % across.length], y = down[Math.floor(turn / across.length)];
    return this.detected(frame, crop(x, y, side));
  }

  async detected(frame, window) {
    const bytes = this.cutter.cut(frame, window, DETECTOR_SIZE);
    const [boxes, logits] = await this.detect(pixels(bytes, 1 / 127.5, -1));
    let best = -1;
    for (let k = 0; k < logits.length; k++) if (best < 0 || logits[k] > logits[best]) best = k;
    if (!(chance(logits[best]) >= LEAST_SCORE)) return null;
    const at = (k) => {
      const x = boxes[12 * best + 2 * k] / DETECTOR_SIZE + ANCHORS[best][0];
      return window.locate(x, boxes[12 * best + 2 * k + 1] / DETECTOR_SIZE + ANCHORS[best][1]);
    };
    const found = uprightCrop(at(2), at(3), PADDING);
    return sound(found, frame) ? found : null;
  }

  async marks(frame, window) {
    const bytes = this.cutter.cut(frame, window, SIZE);
    const [raw, flag, , heat, world] = await this.look(pixels(bytes, 1 / 255, 0));
    const points = [], space = [];
    for (let k = 0; k < NUM_POINTS; k++) {
      const [x, y] = hottest(raw[5 * k] / SIZE, raw[5 * k + 1] / SIZE, heat, k);
      const [u, v] = window.locate(x, y);
      const sure = chance(raw[5 * k + 3]) * chance(raw[5 * k + 4]);
      const inside = u >= 0 && v >= 0 && u <= frame.width && v <= frame.height;
      points.push({ u, v, sure: inside ? sure : 0 });
      const [wx, wy] = [world[3 * k], world[3 * k + 1]];
      space.push([wx * window.cos - wy * window.sin, wx * window.sin + wy * window.cos, world[3 * k + 2]]);
    }
    const place = (k) => [points[k].u, points[k].v];
    return {
      points: points.slice(0, NUM_LANDMARKS),
      space: space.slice(0, NUM_LANDMARKS),
      presence: flag[0],
      next: uprightCrop(place(NEXT_MIDDLE), place(NEXT_TOP), PADDING),
    };
  }
}

// Middles of tiles along a side, of which two neighbors overlap by a third or more.
function middles(length, side) {
  if (side >= length) return [length / 2];
  const count = Math.ceil((length - side) / ((2 / 3) * side) - 1e-9) + 1;
  return Array.from({ length: count }, (_, k) => side / 2 + (k * (length - side)) / (count - 1));
}

function sound(window, frame) {
  const longest = 8 * Math.max(frame.width, frame.height);
  return Number.isFinite(window.side) && window.side >= 1 && window.side <= longest;
}

// A point moved to the mean of its heat map close by, where it is hot enough.
function hottest(x, y, heat, point) {
  if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return [x, y];
  const cells = Math.round(Math.sqrt(heat.length / NUM_POINTS)), reach = REFINED >> 1;
  const row = Math.floor(y * cells), column = Math.floor(x * cells);
  let sum = 0, across = 0, down = 0, most = 0;
  for (let r = Math.max(row - reach, 0); r <= Math.min(row + reach, cells - 1); r++) {
    for (let c = Math.max(column - reach, 0); c <= Math.min(column + reach, cells - 1); c++) {
      const value = chance(heat[(r * cells + c) * NUM_POINTS + point]);
      most = Math.max(most, value);
      sum += value;
      across += value * c;
      down += value * r;
    }
  }
  return most < LEAST_HEAT ? [x, y] : [(across / sum + 0.5) / cells, (down / sum + 0.5) / cells];
}
