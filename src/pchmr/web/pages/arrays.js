// Reads the one file of named arrays that the server makes: length, JSON header, bytes.

const KINDS = { f4: Float32Array, u4: Uint32Array, u1: Uint8Array };

export function readArrays(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const start = 4 + size;
  const arrays = {};
  for (const [name, { kind, offset, count }] of Object.entries(header.arrays)) {
    arrays[name] = new KINDS[kind](buffer.slice(start + offset, start + offset + count * KINDS[kind].BYTES_PER_ELEMENT));
  }
  return { about: header.about, ...arrays };
}
