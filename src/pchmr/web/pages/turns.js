// 3x3 rotations as nine numbers, row by row.

export function multiply(a, b, out) {
  for (let r = 0; r < 3; r++) {
    for (let c = 0; c < 3; c++) {
      out[3 * r + c] = a[3 * r] * b[c] + a[3 * r + 1] * b[3 + c] + a[3 * r + 2] * b[6 + c];
    }
  }
  return out;
}

export function transposed(a) {
  return [a[0], a[3], a[6], a[1], a[4], a[7], a[2], a[5], a[8]];
}

// The rotation close to a matrix that rounding has bent: its rows made unit and square in turn.
export function squared(m, out) {
  const first = unit([m[0], m[1], m[2]]);
  const along = first[0] * m[3] + first[1] * m[4] + first[2] * m[5];
  const second = unit([m[3] - along * first[0], m[4] - along * first[1], m[5] - along * first[2]]);
  out.set(first, 0);
  out.set(second, 3);
  out[6] = first[1] * second[2] - first[2] * second[1];
  out[7] = first[2] * second[0] - first[0] * second[2];
  out[8] = first[0] * second[1] - first[1] * second[0];
  return out;
}

function unit([x, y, z]) {
  const length = Math.hypot(x, y, z);
  return [x / length, y / length, z / length];
}

// Rodrigues' formula: the rotation of a vector of radians.
export function exponential(x, y, z) {
  const angle = Math.hypot(x, y, z);
  const a = angle < 1e-6 ? 1 : Math.sin(angle) / angle;
  const b = angle < 1e-6 ? 0.5 : (1 - Math.cos(angle)) / (angle * angle);
  const diagonal = 1 - b * (x * x + y * y + z * z);
  return [
    diagonal + b * x * x, b * x * y - a * z, b * x * z + a * y,
    b * x * y + a * z, diagonal + b * y * y, b * y * z - a * x,
    b * x * z - a * y, b * y * z + a * x, diagonal + b * z * z,
  ];
}

// The unit quaternion (x, y, z, w) of a rotation, w not negative.
export function quaternion(m) {
  const [a, b, c] = [m[0], m[4], m[8]];
  const four = [1 + a - b - c, 1 - a + b - c, 1 - a - b + c, 1 + a + b + c];
  const largest = four.indexOf(Math.max(...four));
  const t = Math.sqrt(four[largest]) * 2;
  const x = (m[7] - m[5]) / t, y = (m[2] - m[6]) / t, z = (m[3] - m[1]) / t;
  const xy = (m[1] + m[3]) / t, xz = (m[2] + m[6]) / t, yz = (m[5] + m[7]) / t;
  const found = [[t / 4, xy, xz, x], [xy, t / 4, yz, y], [xz, yz, t / 4, z], [x, y, z, t / 4]][largest];
  return found[3] < 0 ? found.map((value) => -value) : found;
}

// The vector of radians of a rotation.
export function logarithm(m) {
  const [x, y, z, w] = quaternion(m);
  const sine = Math.hypot(x, y, z);
  const scale = sine < 1e-9 ? 2 : (2 * Math.atan2(sine, w)) / sine;
  return [scale * x, scale * y, scale * z];
}

// Degrees about Z, Y and X, in the order of a BVH's channels.
export function eulerZYX(m) {
  const degrees = 180 / Math.PI;
  const y = Math.asin(Math.max(-1, Math.min(1, -m[6])));
  if (Math.abs(m[6]) > 0.999999) {
    return [Math.atan2(-m[1], m[4]) * degrees, y * degrees, 0];
  }
  return [Math.atan2(m[3], m[0]) * degrees, y * degrees, Math.atan2(m[7], m[8]) * degrees];
}
