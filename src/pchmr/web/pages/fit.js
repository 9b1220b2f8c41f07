// The body refitted to what was seen in a frame, from the fit of the frame before.
// Levenberg-Marquardt on pixels, points in space and the network's mesh, each robust.

import { BETAS } from "./body.js";
import { logarithm, transposed } from "./turns.js";

export const ROUGH_STEPS = 4, FIRST_STEPS = 12, NEXT_STEPS = 3;
const PIXEL_SD = 0.012; // of the person's size
const SPACE_SD = 0.1; // metres
const MESH_SD = { alone: 0.02, beside: 0.2 }; // metres: the network's mesh, without and with landmarks
const RADIUS = 4; // standard deviations from which evidence counts less and less
const PRIOR = 0.35, SHAPE = 1.5; // weights of the pose prior and of the mean shape
const BAD_ENERGY = 8; // a keypoint, from which a fit is begun anew
const JUMP = 0.1; // of the person's size
const LEAST_DAMPING = 1e-4;

// `evidence`: {focal, cx, cy, size, keypoints: [{point, u, v, weight}],
// space: [{point, xyz, weight}], mesh: [{point, xyz, weight}], meshAlone}.
export class Fitter {
  constructor(body) {
    this.body = body;
    this.columns = 3 * body.numJoints + BETAS + 3;
  }

  // The state of the frame before moved on; where that leads nowhere, the best of the starts.
  fit(evidence, last) {
    if (last) {
      const from = this.hasJumped(evidence, last) ? this.placed(evidence, copied(last)) : last;
      const found = this.minimize(evidence, from, NEXT_STEPS);
      if (found.energy <= BAD_ENERGY * evidence.keypoints.length) return found;
    }
    let best = null;
    for (let number = 0; number < this.body.about.num_starts; number++) {
      const found = this.minimize(evidence, this.placed(evidence, this.body.start(number)), ROUGH_STEPS, true);
      if (!best || found.energy < best.energy) best = found;
    }
    return this.minimize(evidence, best.state, FIRST_STEPS);
  }

  // Whether the person is far from where the last fit has them: a frame was long in coming.
  hasJumped(evidence, state) {
    const chain = this.body.pose(state);
    let x = 0, y = 0, total = 0;
    for (const one of evidence.keypoints) {
      const place = this.body.point(one.point, state, chain);
      x += one.weight * ((evidence.focal * place[0]) / place[2] + evidence.cx - one.u);
      y += one.weight * ((evidence.focal * place[1]) / place[2] + evidence.cy - one.v);
      total += one.weight;
    }
    return Math.hypot(x, y) > JUMP * evidence.size * total;
  }

  // A start moved before the camera so that its points cover those that were seen.
  placed(evidence, state) {
    const chain = this.body.pose(state);
    const seen = evidence.keypoints.filter((one) => one.weight > 0);
    const places = seen.map((one) => this.body.point(one.point, state, chain));
    const [mx, my, mz, spread] = extent(places);
    const [mu, mv, , wide] = extent(seen.map((one) => [one.u, one.v, 0]));
    const z = (evidence.focal * spread) / Math.max(wide, 1);
    state.transl[0] += ((mu - evidence.cx) * z) / evidence.focal - mx;
    state.transl[1] += ((mv - evidence.cy) * z) / evidence.focal - my;
    state.transl[2] += z - mz;
    return state;
  }

  minimize(evidence, state, steps, rough = false) {
    let damping = rough ? 1e-2 : 1e-3;
    let now = this.equations(evidence, state);
    for (let count = 0; count < steps; count++) {
      const change = solve(now.normal, now.slope, damping, this.columns);
      if (!change) break;
      const tried = this.body.step(state, now.chain, change);
      const then = this.equations(evidence, tried);
      if (then.energy < now.energy) {
        damping = Math.max(damping * 0.4, LEAST_DAMPING);
        [state, now] = [tried, then];
      } else {
        damping *= 6;
      }
    }
    return { state, energy: now.energy, chain: now.chain };
  }

  // Robust energy, and the weighted normal equations, of a state.
  equations(evidence, state) {
    const n = this.columns, body = this.body, chain = body.pose(state);
    const found = { energy: 0, normal: new Float64Array(n * n), slope: new Float64Array(n), chain };
    const derivative = new Float64Array(3 * n), row = new Float64Array(n);
    for (const one of evidence.keypoints) {
      derivative.fill(0);
      const [x, y, z] = body.point(one.point, state, chain, derivative);
      const depth = Math.max(z, 0.1), sd = PIXEL_SD * evidence.size;
      const errors = [
        (evidence.focal * x) / depth + evidence.cx - one.u,
        (evidence.focal * y) / depth + evidence.cy - one.v,
      ];
      const pull = (one.weight * robust(Math.hypot(...errors) / sd, found, one.weight)) / (sd * sd);
      for (let axis = 0; axis < 2; axis++) {
        const side = axis ? y : x, scale = evidence.focal / depth;
        for (let c = 0; c < n; c++) {
          row[c] = scale * (derivative[axis * n + c] - (side / depth) * derivative[2 * n + c]);
        }
        add(found, row, errors[axis], pull, n);
      }
    }
    this.addSpace(found, evidence.space, SPACE_SD, state);
    const sd = evidence.meshAlone ? MESH_SD.alone : MESH_SD.beside;
    this.addSpace(found, evidence.mesh, sd, state);
    this.addPrior(found, state);
    for (let s = 0; s < BETAS; s++) {
      const at = 3 * body.numJoints + s;
      found.normal[at * n + at] += SHAPE;
      found.slope[at] += SHAPE * state.betas[s];
      found.energy += SHAPE * state.betas[s] ** 2;
    }
    return found;
  }

  // Points in space about their common mean, which no one knows in the camera.
  addSpace(found, seen, sd, state) {
    if (!seen.length) return;
    const n = this.columns, body = this.body;
    const mean = new Float64Array(3 * n), rows = [], own = [0, 0, 0], given = [0, 0, 0];
    let total = 0;
    for (const one of seen) {
      const derivative = new Float64Array(3 * n);
      const place = body.point(one.point, state, found.chain, derivative);
      rows.push({ one, place, derivative });
      total += one.weight;
      for (let a = 0; a < 3; a++) {
        own[a] += one.weight * place[a];
        given[a] += one.weight * one.xyz[a];
      }
      for (let k = 0; k < 3 * n; k++) mean[k] += one.weight * derivative[k];
    }
    for (const { one, place, derivative } of rows) {
      const errors = [0, 1, 2].map((a) => place[a] - own[a] / total - one.xyz[a] + given[a] / total);
      const pull = (one.weight * robust(Math.hypot(...errors) / sd, found, one.weight)) / (sd * sd);
      for (let k = 0; k < 3 * n; k++) derivative[k] -= mean[k] / total;
      for (let a = 0; a < 3; a++) add(found, derivative.subarray(a * n, (a + 1) * n), errors[a], pull, n);
    }
  }

  // The likeliest Gaussian of the pose prior, over the rotation vectors below the root.
  addPrior(found, state) {
    const n = this.columns, J = this.body.numJoints, width = 3 * (J - 1);
    const { prior_mean: mean, prior_whitening: whitening } = this.body;
    const offset = new Float64Array(width), turns = [];
    for (let j = 1; j < J; j++) {
      offset.set(logarithm(state.rotmat.subarray(9 * j, 9 * j + 9)), 3 * (j - 1));
      const parent = this.body.parents[j];
      turns.push(transposed(found.chain.world.subarray(9 * parent, 9 * parent + 9)));
    }
    for (let k = 0; k < width; k++) offset[k] -= mean[k];
    const row = new Float64Array(n);
    for (let r = 0; r < width; r++) {
      const line = whitening.subarray(r * width, (r + 1) * width);
      let error = 0;
      for (let k = 0; k < width; k++) error += line[k] * offset[k];
      for (let j = 1; j < J; j++) {
        const turn = turns[j - 1], at = 3 * (j - 1);
        for (let c = 0; c < 3; c++) {
          row[3 * j + c] = line[at] * turn[c] + line[at + 1] * turn[3 + c] + line[at + 2] * turn[6 + c];
        }
      }
      add(found, row, error, PRIOR, n);
      found.energy += PRIOR * error * error;
    }
  }
}

function copied({ rotmat, betas, transl }) {
  return { rotmat, betas, transl: Float64Array.from(transl) };
}

// Geman and McClure's weight of an error in standard deviations; adds its energy.
function robust(error, found, weight) {
  const square = error * error, far = RADIUS * RADIUS;
  found.energy += (weight * square * far) / (far + square);
  return (far / (far + square)) ** 2;
}

function add(found, row, error, pull, n) {
  if (pull === 0) return;
  const { normal, slope } = found, used = [];
  for (let c = 0; c < n; c++) if (row[c] !== 0) used.push(c);
  for (const a of used) {
    const value = pull * row[a], base = a * n;
    slope[a] += value * error;
    for (const b of used) {
      if (b > a) break;
      normal[base + b] += value * row[b];
    }
  }
}

// The damped step by Cholesky's factors of the lower triangle; null where there are none.
function solve(normal, slope, damping, n) {
  const factor = Float64Array.from(normal), out = new Float64Array(n);
  for (let a = 0; a < n; a++) factor[a * n + a] += damping * (normal[a * n + a] + 1) + 1e-6;
  for (let a = 0; a < n; a++) {
    for (let b = 0; b <= a; b++) {
      let sum = factor[a * n + b];
      for (let k = 0; k < b; k++) sum -= factor[a * n + k] * factor[b * n + k];
      if (a === b) {
        if (!(sum > 0)) return null;
        factor[a * n + a] = Math.sqrt(sum);
      } else {
        factor[a * n + b] = sum / factor[b * n + b];
      }
    }
  }
  for (let a = 0; a < n; a++) {
    let sum = -slope[a];
    for (let k = 0; k < a; k++) sum -= factor[a * n + k] * out[k];
    out[a] = sum / factor[a * n + a];
  }
  for (let a = n - 1; a >= 0; a--) {
    let sum = out[a];
    for (let k = a + 1; k < n; k++) sum -= factor[k * n + a] * out[k];
    out[a] = sum / factor[a * n + a];
  }
  return limited(out, n);
}

// No joint turns further than a radian in one step.
function limited(change, n) {
  let largest = 0;
  for (let k = 0; k < n - BETAS - 3; k += 3) largest = Math.max(largest, Math.hypot(change[k], change[k + 1], change[k + 2]));
  if (!Number.isFinite(largest)) return null;
  return largest > 1 ? change.map((value) => value / largest) : change;
}

function extent(places) {
  const mean = [0, 1, 2].map((a) => places.reduce((sum, place) => sum + place[a], 0) / places.length);
  const square = places.reduce((sum, place) => sum + (place[0] - mean[0]) ** 2 + (place[1] - mean[1]) ** 2, 0);
  return [...mean, Math.sqrt(square / places.length)];
}
