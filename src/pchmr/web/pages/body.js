// The body in the tab: chain of joints, skin, and the points that the fit pulls at.
// Metres, camera frame: x right, y down, z forward. See kinematics.py and rig.py, its twins.

import { exponential, multiply, squared, transposed } from "./turns.js";

export const BETAS = 10;

export class Body {
  constructor(arrays) {
    Object.assign(this, arrays);
    this.parents = arrays.about.parents;
    this.numJoints = this.parents.length;
    this.numVertices = this.template.length / 3;
    this.boneOf = [];
    this.numPoints = this.rig_weights.length / this.numJoints;
    for (let point = 0; point < this.numPoints; point++) {
      const row = this.rig_weights.subarray(point * this.numJoints, (point + 1) * this.numJoints);
      this.boneOf.push([...row.keys()].filter((bone) => Math.abs(row[bone]) > 1e-4));
    }
  }

  start(number) {
    const size = 9 * this.numJoints;
    const rotmat = Float64Array.from(this.starts.subarray(number * size, (number + 1) * size));
    for (let at = 0; at < size; at += 9) squared(rotmat.slice(at, at + 9), rotmat.subarray(at, at + 9));
    return {
      rotmat,
      betas: new Float64Array(BETAS),
      transl: Float64Array.of(0, 0, 3),
    };
  }

  // Rotations and places of all joints, what each bone adds to a rotated rest point, and how
  // places and additions change with the shape.
  pose(state) {
    const J = this.numJoints;
    const rest = new Float64Array(3 * J);
    for (let k = 0; k < 3 * J; k++) {
      rest[k] = this.joints[k];
      for (let s = 0; s < BETAS; s++) rest[k] += this.joint_dirs[k * BETAS + s] * state.betas[s];
    }
    const world = new Float64Array(9 * J), joints = new Float64Array(3 * J);
    const shift = new Float64Array(3 * J), dirs = new Float64Array(3 * J * BETAS);
    for (let j = 0; j < J; j++) {
      const parent = this.parents[j], own = world.subarray(9 * j, 9 * j + 9);
      const local = state.rotmat.subarray(9 * j, 9 * j + 9);
      if (parent < 0) {
        own.set(local);
        for (let a = 0; a < 3; a++) joints[3 * j + a] = rest[3 * j + a] + state.transl[a];
        for (let k = 0; k < 3 * BETAS; k++) dirs[3 * j * BETAS + k] = this.joint_dirs[3 * j * BETAS + k];
      } else {
        const above = world.subarray(9 * parent, 9 * parent + 9);
        multiply(above, local, own);
        for (let a = 0; a < 3; a++) {
          joints[3 * j + a] = joints[3 * parent + a];
          for (let b = 0; b < 3; b++) {
            joints[3 * j + a] += above[3 * a + b] * (rest[3 * j + b] - rest[3 * parent + b]);
          }
          for (let s = 0; s < BETAS; s++) {
            let value = dirs[(3 * parent + a) * BETAS + s];
            for (let b = 0; b < 3; b++) {
              value += above[3 * a + b] *
                (this.joint_dirs[(3 * j + b) * BETAS + s] - this.joint_dirs[(3 * parent + b) * BETAS + s]);
            }
            dirs[(3 * j + a) * BETAS + s] = value;
          }
        }
      }
      for (let a = 0; a < 3; a++) {
        shift[3 * j + a] = joints[3 * j + a];
        for (let b = 0; b < 3; b++) shift[3 * j + a] -= own[3 * a + b] * rest[3 * j + b];
      }
    }
    return { world, joints, shift, dirs };
  }

  // Skinned vertices; `betas` may be others than the state's.
  vertices(state, chain) {
    const { template, shapedirs, bones, shares } = this;
    const out = new Float32Array(template.length), many = bones.length / this.numVertices;
    const { world, shift } = chain, b = state.betas;
    for (let v = 0; v < this.numVertices; v++) {
      const at = 3 * v;
      let x = template[at], y = template[at + 1], z = template[at + 2];
      for (let s = 0, k = at * BETAS; s < BETAS; s++) {
        x += shapedirs[k + s] * b[s];
        y += shapedirs[k + BETAS + s] * b[s];
        z += shapedirs[k + 2 * BETAS + s] * b[s];
      }
      let px = 0, py = 0, pz = 0;
      for (let n = 0; n < many; n++) {
        const share = shares[v * many + n];
        if (share === 0) break;
        const bone = bones[v * many + n], r = 9 * bone, q = 3 * bone;
        px += share * (world[r] * x + world[r + 1] * y + world[r + 2] * z + shift[q]);
        py += share * (world[r + 3] * x + world[r + 4] * y + world[r + 5] * z + shift[q + 1]);
        pz += share * (world[r + 6] * x + world[r + 7] * y + world[r + 8] * z + shift[q + 2]);
      }
      out[at] = px;
      out[at + 1] = py;
      out[at + 2] = pz;
    }
    return out;
  }

  // One rigged point, and its change with every turn, beta and the translation: 3 rows.
  point(number, state, chain, jacobian) {
    const J = this.numJoints, columns = 3 * J + BETAS + 3;
    const { world, joints, shift, dirs } = chain;
    const moved = this.scratch ??= new Float64Array(4 * J);
    moved.fill(0);
    const place = [0, 0, 0];
    for (const bone of this.boneOf[number]) {
      const at = number * J + bone, weight = this.rig_weights[at];
      const rest = [0, 0, 0];
      for (let a = 0; a < 3; a++) {
        rest[a] = this.rig_template[3 * at + a];
        for (let s = 0; s < BETAS; s++) rest[a] += this.rig_dirs[(3 * at + a) * BETAS + s] * state.betas[s];
      }
      for (let a = 0; a < 3; a++) {
        const r = 9 * bone + 3 * a;
        const value = world[r] * rest[0] + world[r + 1] * rest[1] + world[r + 2] * rest[2] + weight * shift[3 * bone + a];
        place[a] += value;
        moved[4 * bone + a] += value;
      }
      moved[4 * bone + 3] += weight;
      if (jacobian) this.shapeColumns(at, bone, weight, world, dirs, jacobian, columns);
    }
    if (!jacobian) return place;
    for (let j = J - 1; j >= 0; j--) {
      const parent = this.parents[j], m = 4 * j;
      if (moved[m + 3] !== 0 || moved[m] !== 0) {
        const x = moved[m] - moved[m + 3] * joints[3 * j];
        const y = moved[m + 1] - moved[m + 3] * joints[3 * j + 1];
        const z = moved[m + 2] - moved[m + 3] * joints[3 * j + 2];
        jacobian[columns + 3 * j] = -z;
        jacobian[2 * columns + 3 * j] = y;
        jacobian[3 * j + 1] = z;
        jacobian[2 * columns + 3 * j + 1] = -x;
        jacobian[3 * j + 2] = -y;
        jacobian[columns + 3 * j + 2] = x;
        if (parent >= 0) for (let a = 0; a < 4; a++) moved[4 * parent + a] += moved[m + a];
      }
    }
    for (let a = 0; a < 3; a++) jacobian[a * columns + 3 * J + BETAS + a] = 1;
    return place;
  }

  shapeColumns(at, bone, weight, world, dirs, jacobian, columns) {
    const first = 3 * this.numJoints;
    for (let a = 0; a < 3; a++) {
      for (let s = 0; s < BETAS; s++) {
        let value = weight * dirs[(3 * bone + a) * BETAS + s];
        for (let b = 0; b < 3; b++) {
          value += world[9 * bone + 3 * a + b] *
            (this.rig_dirs[(3 * at + b) * BETAS + s] - weight * this.joint_dirs[(3 * bone + b) * BETAS + s]);
        }
        jacobian[a * columns + first + s] += value;
      }
    }
  }

  // The state after a step of the solver: turns about the camera's axes, betas, translation.
  step(state, chain, change) {
    const J = this.numJoints, rotmat = new Float64Array(9 * J);
    for (let j = 0; j < J; j++) {
      const parent = this.parents[j], local = state.rotmat.subarray(9 * j, 9 * j + 9);
      const turn = exponential(change[3 * j], change[3 * j + 1], change[3 * j + 2]);
      if (parent < 0) {
        squared(multiply(turn, local, new Float64Array(9)), rotmat.subarray(0, 9));
      } else {
        const above = chain.world.subarray(9 * parent, 9 * parent + 9);
        const inner = multiply(turn, multiply(above, local, new Float64Array(9)), new Float64Array(9));
        squared(multiply(transposed(above), inner, new Float64Array(9)), rotmat.subarray(9 * j, 9 * j + 9));
      }
    }
    return {
      rotmat,
      betas: state.betas.map((value, s) => value + change[3 * J + s]),
      transl: state.transl.map((value, a) => value + change[3 * J + BETAS + a]),
    };
  }
}
