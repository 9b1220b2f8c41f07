// What the mesh network says of a crop, in pixels of the frame and metres before its camera.

import { crop, planes, squareAround } from "./crops.js";

const MARGIN = 1.2, LEAST_SCALE = 0.05, LEAST_SIDE = 16;

export class MeshNetwork {
  constructor(network, size, body, cutter) {
    Object.assign(this, { network, size, body, cutter });
    this.window = null;
  }

  // The person in a window of the frame; without one, where the last mesh was, else everywhere.
  async see(frame, window) {
    const whole = crop(frame.width / 2, frame.height / 2, Math.max(frame.width, frame.height));
    const place = window ?? this.window ?? whole;
    const bytes = this.cutter.cut(frame, place, this.size);
    const shape = [1, 3, this.size, this.size];
    const { vertices, camera } = await this.network.run(planes(bytes, this.size), shape, ["vertices", "camera"]);
    const found = this.about(vertices, camera, place);
    if (!window) this.window = found && usable(found.next, frame) ? found.next : null;
    return found;
  }

  about(vertices, camera, window) {
    const [scale, tx, ty] = camera;
    if (!(scale >= LEAST_SCALE) || !Number.isFinite(tx + ty)) return null;
    const hips = [0, 0, 0], { hip_rows: rows, hip_shares: shares } = this.body;
    for (let k = 0; k < rows.length; k++) {
      for (let a = 0; a < 3; a++) hips[a] += shares[k] * vertices[3 * rows[k] + a];
    }
    const half = window.side / 2;
    const pixel = (v) => [
      window.x + half * scale * (vertices[3 * v] - hips[0] + tx),
      window.y + half * scale * (vertices[3 * v + 1] - hips[1] + ty),
    ];
    const outline = [...this.body.mesh_rows].map(pixel);
    return { vertices, hips, scale, tx, ty, window, pixel, next: squareAround(outline, MARGIN * 1.05) };
  }
}

// The mesh moved before a pinhole camera where it covers what the weak one says.
export function placed(seen, camera) {
  const metres = 2 / (seen.scale * seen.window.side);
  const x = seen.tx + (seen.window.x - camera.cx) * metres - seen.hips[0];
  const y = seen.ty + (seen.window.y - camera.cy) * metres - seen.hips[1];
  const z = camera.focal * metres - seen.hips[2];
  const out = new Float32Array(seen.vertices.length);
  for (let k = 0; k < out.length; k += 3) {
    out[k] = seen.vertices[k] + x;
    out[k + 1] = seen.vertices[k + 1] + y;
    out[k + 2] = seen.vertices[k + 2] + z;
  }
  return out;
}

function usable(window, frame) {
  const inside = window.x > 0 && window.y > 0 && window.x < frame.width && window.y < frame.height;
  return inside && window.side >= LEAST_SIDE && window.side <= 4 * Math.max(frame.width, frame.height);
}
