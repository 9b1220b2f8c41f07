// A recording as BVH or as binary glTF: metres, y up, the mean shape, which tells nothing of a person.

import { eulerZYX, multiply, quaternion } from "./turns.js";

const FLIP = [1, 0, 0, 0, -1, 0, 0, 0, -1]; // camera frame to y up
const MOST_FRAMES = 18000; // ten minutes at 30 a second
const FLOAT = 5126, BYTE = 5121, WHOLE = 5125;
const LEAST_RATE = 5, USUAL_RATE = 30;

export class Recorder {
  constructor(body) {
    this.body = body;
    this.frames = [];
    this.before = null; // the last frame's time by the clock of its source
  }

  // Another source, whose clock is its own, follows.
  turnOver() {
    this.before = null;
  }

  // Time by one clock for all sources and rounds of a video: it always rises.
  clock(seconds) {
    const last = this.frames.at(-1), passed = this.before === null ? 0 : seconds - this.before;
    this.before = seconds;
    if (!last) return 0;
    return last.seconds + (passed > 0 ? passed : 1 / USUAL_RATE);
  }

  get isFull() {
    return this.frames.length >= MOST_FRAMES;
  }

  // Keeps a fitted frame; `seconds` are by the clock of its source, which may begin again.
  add(seconds, { rotmat, transl }) {
    if (this.isFull) return;
    const { joints } = this.body, turns = Float64Array.from(rotmat);
    turns.set(multiply(FLIP, rotmat.subarray(0, 9), new Float64Array(9)), 0);
    const root = [joints[0] + transl[0], -(joints[1] + transl[1]), -(joints[2] + transl[2])];
    this.frames.push({ seconds: this.clock(seconds), turns, root });
  }

  // Frames at an even rate, each the one that is nearest in time.
  even() {
    const { frames } = this, first = frames[0].seconds;
    const length = frames[frames.length - 1].seconds - first;
    const usual = length > 0 ? (frames.length - 1) / length : USUAL_RATE;
    const rate = Math.max(LEAST_RATE, Math.round(usual)), found = [];
    for (let k = 0, at = 0; k <= length * rate + 1e-9; k++) {
      const now = first + k / rate;
      while (at + 1 < frames.length && Math.abs(frames[at + 1].seconds - now) <= Math.abs(frames[at].seconds - now)) at++;
      found.push(frames[at]);
    }
    return { rate, frames: found };
  }

  bvh() {
    const { rate, frames } = this.even(), order = [];
    const lines = ["HIERARCHY", ...this.joint(0, 0, order), "MOTION", `Frames: ${frames.length}`, `Frame Time: ${(1 / rate).toFixed(8)}`];
    for (const { turns, root } of frames) {
      const row = [...root];
      for (const j of order) row.push(...eulerZYX(turns.subarray(9 * j, 9 * j + 9)));
      lines.push(row.map((value) => value.toFixed(6)).join(" "));
    }
    return new Blob([lines.join("\n") + "\n"], { type: "text/plain" });
  }

  joint(j, depth, order) {
    order.push(j);
    const { parents, about, joints } = this.body, parent = parents[j];
    const offset = [0, 1, 2].map((a) => (parent < 0 ? 0 : joints[3 * j + a] - joints[3 * parent + a]));
    const tab = "\t".repeat(depth), inner = "\t".repeat(depth + 1), turns = "Zrotation Yrotation Xrotation";
    const channels = parent < 0 ? `6 Xposition Yposition Zposition ${turns}` : `3 ${turns}`;
    const lines = [`${tab}${parent < 0 ? "ROOT" : "JOINT"} ${about.joint_names[j]}`, `${tab}{`,
      `${inner}OFFSET ${numbers(offset)}`, `${inner}CHANNELS ${channels}`];
    const children = [...parents.keys()].filter((child) => parents[child] === j);
    for (const child of children) lines.push(...this.joint(child, depth + 1, order));
    if (!children.length) {
      lines.push(`${inner}End Site`, `${inner}{`, `${inner}\tOFFSET ${numbers(about.ends[j])}`, `${inner}}`);
    }
    return [...lines, `${tab}}`];
  }

  glb() {
    const { frames } = this, { body } = this, first = frames[0].seconds;
    const file = new Binary();
    const nodes = this.skeleton(), channels = [], samplers = [];
    const times = file.array(Float32Array.from(frames, (one) => one.seconds - first), FLOAT, "SCALAR", true);
    const follow = (node, path, values, kind) => {
      samplers.push({ input: times, output: file.array(values, FLOAT, kind), interpolation: "LINEAR" });
      channels.push({ sampler: samplers.length - 1, target: { node, path } });
    };
    follow(0, "translation", Float32Array.from(frames.flatMap((one) => one.root)), "VEC3");
    for (let j = 0; j < body.numJoints; j++) follow(j, "rotation", this.quaternions(j), "VEC4");
    const document = {
      asset: { version: "2.0", generator: "pchmr live" },
      scene: 0,
      scenes: [{ nodes: [0, nodes.length] }],
      nodes: [...nodes, { name: "person_mesh", mesh: 0, skin: 0 }],
      meshes: [{ name: "person", primitives: [this.primitive(file)] }],
      materials: [{ pbrMetallicRoughness: { baseColorFactor: [0.56, 0.69, 0.95, 1], metallicFactor: 0, roughnessFactor: 0.75 } }],
      skins: [{ joints: [...body.parents.keys()], skeleton: 0, inverseBindMatrices: file.array(this.inverses(), FLOAT, "MAT4") }],
      animations: [{ name: "clip", channels, samplers }],
    };
    return file.written(document);
  }

  skeleton() {
    const { parents, joints, about } = this.body;
    return parents.map((parent, j) => {
      const translation = [0, 1, 2].map((a) => joints[3 * j + a] - (parent < 0 ? 0 : joints[3 * parent + a]));
      const children = [...parents.keys()].filter((child) => parents[child] === j);
      return { name: about.joint_names[j], translation, ...(children.length ? { children } : {}) };
    });
  }

  primitive(file) {
    const { template, faces, bones, shares } = this.body, many = bones.length / (template.length / 3);
    const four = new Uint8Array((bones.length / many) * 4), weights = new Float32Array(four.length);
    for (let v = 0; v < four.length / 4; v++) {
      const total = [0, 1, 2, 3].reduce((sum, n) => sum + shares[v * many + n], 0);
      for (let n = 0; n < 4; n++) {
        weights[4 * v + n] = shares[v * many + n] / total;
        four[4 * v + n] = weights[4 * v + n] > 0 ? bones[v * many + n] : 0;
      }
    }
    return {
      attributes: {
        POSITION: file.array(template, FLOAT, "VEC3", true),
        JOINTS_0: file.array(four, BYTE, "VEC4"),
        WEIGHTS_0: file.array(weights, FLOAT, "VEC4"),
      },
      indices: file.array(faces, WHOLE, "SCALAR"),
      material: 0,
    };
  }

  inverses() {
    const { joints, numJoints } = this.body, out = new Float32Array(16 * numJoints);
    for (let j = 0; j < numJoints; j++) {
      for (const k of [0, 5, 10, 15]) out[16 * j + k] = 1;
      for (let a = 0; a < 3; a++) out[16 * j + 12 + a] = -joints[3 * j + a];
    }
    return out;
  }

  // Each on the side of the one before, so that viewers turn the short way.
  quaternions(j) {
    const out = new Float32Array(4 * this.frames.length);
    let last = [0, 0, 0, 1];
    this.frames.forEach(({ turns }, k) => {
      const own = quaternion(turns.subarray(9 * j, 9 * j + 9));
      const near = own.reduce((sum, value, n) => sum + value * last[n], 0) >= 0;
      last = near ? own : own.map((value) => -value);
      out.set(last, 4 * k);
    });
    return out;
  }
}

const WIDTHS = { SCALAR: 1, VEC3: 3, VEC4: 4, MAT4: 16 };

class Binary {
  constructor() {
    this.parts = [];
    this.size = 0;
    this.bufferViews = [];
    this.accessors = [];
  }

  array(values, componentType, type, hasLimits = false) {
    const width = WIDTHS[type], bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.bufferViews.push({ buffer: 0, byteOffset: this.size, byteLength: bytes.length });
    const accessor = { bufferView: this.bufferViews.length - 1, componentType, type, count: values.length / width };
    if (hasLimits) Object.assign(accessor, limits(values, width));
    this.parts.push(bytes, new Uint8Array(-bytes.length & 3));
    this.size += bytes.length + (-bytes.length & 3);
    return this.accessors.push(accessor) - 1;
  }

  written(document) {
    const { bufferViews, accessors, size } = this;
    const about = { ...document, bufferViews, accessors, buffers: [{ byteLength: size }] };
    const text = new TextEncoder().encode(JSON.stringify(about));
    const padding = new Uint8Array(-text.length & 3).fill(32), length = text.length + padding.length;
    const head = Uint32Array.of(0x46546c67, 2, 28 + length + size, length, 0x4e4f534a);
    return new Blob([head, text, padding, Uint32Array.of(size, 0x004e4942), ...this.parts], { type: "model/gltf-binary" });
  }
}

function limits(values, width) {
  const min = new Array(width).fill(Infinity), max = new Array(width).fill(-Infinity);
  values.forEach((value, k) => {
    min[k % width] = Math.min(min[k % width], value);
    max[k % width] = Math.max(max[k % width], value);
  });
  return { min, max };
}

function numbers(values) {
  return values.map((value) => value.toFixed(6)).join(" ");
}
