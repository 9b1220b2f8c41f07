// Turned square windows of a frame; the twin of turned.py.

export function crop(x, y, side, angle = 0) {
  const cos = Math.cos(angle), sin = Math.sin(angle);
  const locate = (u, v) => {
    const right = (u - 0.5) * side, down = (v - 0.5) * side;
    return [x + right * cos - down * sin, y + right * sin + down * cos];
  };
  return { x, y, side, angle, cos, sin, locate };
}

// The square about `middle` that `top` turns and sizes.
export function uprightCrop(middle, top, padding) {
  const dx = top[0] - middle[0], dy = top[1] - middle[1];
  return crop(middle[0], middle[1], 2 * Math.hypot(dx, dy) * padding, Math.atan2(dx, -dy));
}

export function squareAround(points, margin) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  return crop((left + right) / 2, (top + bottom) / 2, margin * Math.max(right - left, bottom - top));
}

// Cuts windows out of frames with one canvas a size.
export class Cutter {
  constructor() {
    this.canvases = new Map();
  }

  // RGBA bytes of the window, black outside the frame.
  cut(frame, window, size) {
    if (!this.canvases.has(size)) {
      const canvas = new OffscreenCanvas(size, size);
      this.canvases.set(size, canvas.getContext("2d", { willReadFrequently: true, alpha: false }));
    }
    const context = this.canvases.get(size), scale = size / window.side;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, size, size);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = scale < 0.5 ? "medium" : "low";
    const { cos, sin, x, y } = window, half = size / 2;
    context.setTransform(scale * cos, -scale * sin, scale * sin, scale * cos,
      half - scale * (cos * x + sin * y), half + scale * (sin * x - cos * y));
    context.drawImage(frame, 0, 0);
    return context.getImageData(0, 0, size, size).data;
  }
}

// Channels first in [0, 1], as the mesh network takes a crop.
export function planes(bytes, size) {
  const area = size * size, out = new Float32Array(3 * area);
  for (let k = 0, at = 0; k < area; k++, at += 4) {
    out[k] = bytes[at] / 255;
    out[area + k] = bytes[at + 1] / 255;
    out[2 * area + k] = bytes[at + 2] / 255;
  }
  return out;
}

// Channels last, as the landmark networks take a crop: value * scale + shift.
export function pixels(bytes, scale, shift) {
  const count = bytes.length / 4, out = new Float32Array(3 * count);
  for (let k = 0; k < count; k++) {
    for (let c = 0; c < 3; c++) out[3 * k + c] = bytes[4 * k + c] * scale + shift;
  }
  return out;
}
