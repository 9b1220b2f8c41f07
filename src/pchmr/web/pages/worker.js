// Inference in a worker: frames in, meshes out. Asks for files while it opens, for nothing after.

import { readArrays } from "./arrays.js";
import { Body } from "./body.js";
import { Cutter, squareAround } from "./crops.js";
import { Fitter } from "./fit.js";
import { Landmarker } from "./landmarks.js";
import { MeshNetwork, placed } from "./mesh.js";
import { Network, setUp } from "./network.js";
import { Recorder } from "./record.js";

const GUESSED_FOCAL = 1.2; // of the longer side of the frame
const TRIALS = 4;
const EVERY = 3; // frames between two looks of the mesh network where landmarks lead
const LEAST_SURE = 0.2, MARGIN = 1.2;

let page = null;

const TASKS = { open, openLandmarks, time, frame, forget, record, save };

self.onmessage = async ({ data }) => {
  try {
    const { answer, transfer } = await TASKS[data.task](data);
    self.postMessage({ task: data.task, ...answer }, transfer ?? []);
  } catch (error) {
    self.postMessage({ task: "failed", during: data.task, reason: String(error?.message ?? error) });
  }
};

async function open({ folder, suffix, threads, files, about, model }) {
  setUp(folder, suffix, threads);
  const provider = [suffix ? "webgpu" : "wasm"]; // alone, so that no other runs under its name
  const cutter = new Cutter(), body = new Body(readArrays(files.body));
  const network = await Network.open(files[model], provider);
  page = { body, cutter, fitter: new Fitter(body), about, landmarker: null, last: null, mesh: null, recorder: null, count: 0 };
  page.network = new MeshNetwork(network, about.image_size, body, cutter);
  return { answer: { threads } };
}

async function openLandmarks({ files }) {
  const detector = await Network.open(files.detector, ["wasm"]);
  const looker = await Network.open(files.landmarks, ["wasm"]);
  const runner = (network, size) => async (values) => Object.values(await network.run(values, [1, size, size, 3]));
  page.landmarker = new Landmarker(runner(detector, 224), runner(looker, 256), page.cutter);
  return { answer: {} };
}

// Milliseconds that the networks take in a frame, where somebody is followed.
async function time() {
  const size = page.about.image_size, values = new Float32Array(3 * size * size).fill(0.5);
  const mesh = await least(() => page.network.network.run(values, [1, 3, size, size], ["vertices", "camera"]));
  if (!page.landmarker) return { answer: { ms: mesh } };
  return { answer: { ms: (await least(() => page.landmarker.time())) + mesh / EVERY } };
}

// The fastest of a few runs after the first.
async function least(run) {
  let fastest = Infinity;
  for (let turn = 0; turn <= TRIALS; turn++) {
    const began = performance.now();
    await run();
    if (turn) fastest = Math.min(fastest, performance.now() - began);
  }
  return fastest;
}

// A new source: who was followed is forgotten.
async function forget() {
  page.recorder?.turnOver();
  page.last = page.mesh = page.network.window = null;
  if (page.landmarker) page.landmarker.next = null;
  return { answer: {} };
}

async function record() {
  page.recorder = new Recorder(page.body);
  return { answer: {} };
}

async function save({ format }) {
  const recorder = page.recorder;
  page.recorder = null;
  const count = recorder?.frames.length ?? 0;
  return { answer: { format, count, blob: count ? recorder[format]() : null } };
}

async function frame({ bitmap, number, seconds }) {
  const began = performance.now();
  const camera = cameraOf(bitmap);
  const seen = page.landmarker ? await withLandmarks(bitmap, camera) : await alone(bitmap, camera);
  if (seen?.rotmat) page.recorder?.add(seconds, seen);
  const transfer = [bitmap];
  if (seen?.vertices) transfer.push(seen.vertices.buffer);
  const answer = { number, bitmap, camera, seen, ms: performance.now() - began, isFull: page.recorder?.isFull };
  return { answer, transfer };
}

function cameraOf({ width, height }) {
  return { focal: GUESSED_FOCAL * Math.max(width, height), cx: width / 2, cy: height / 2, width, height };
}

// The body refitted to the landmarks of this frame, beside the network's mesh of now and then.
async function withLandmarks(bitmap, camera) {
  const marks = await page.landmarker.see(bitmap);
  if (!marks) {
    page.last = page.mesh = null;
    return null;
  }
  const shown = marks.points.filter((one) => one.sure > LEAST_SURE).map((one) => [one.u, one.v]);
  if (shown.length < 4) return null;
  const box = squareAround(shown, MARGIN);
  if (page.count++ % EVERY === 0 || !page.mesh) page.mesh = await page.network.see(bitmap, box);
  const evidence = { ...camera, ...fromLandmarks(marks, box.side / MARGIN), mesh: [], meshAlone: false };
  if (page.mesh) evidence.mesh = meshPoints(page.mesh);
  const keypoints = marks.points.map((one) => [one.u, one.v, one.sure]);
  return fitted(evidence, { keypoints, presence: marks.presence });
}

// The network's own mesh; the body is fitted to it where parameters are wanted.
async function alone(bitmap, camera) {
  const seen = await page.network.see(bitmap, null);
  if (!seen) {
    page.last = null;
    return null;
  }
  const vertices = placed(seen, camera);
  if (!page.recorder) {
    page.last = null;
    return { vertices, keypoints: [] };
  }
  const mesh = meshPoints(seen), first = page.body.about.num_landmarks;
  const keypoints = mesh.map((one) => {
    const [u, v] = seen.pixel(page.body.mesh_rows[one.point - first]);
    return { point: one.point, u, v, weight: 0.2 };
  });
  const evidence = { ...camera, size: seen.window.side / MARGIN, keypoints, space: [], mesh, meshAlone: true };
  return { ...fitted(evidence, { keypoints: [] }), vertices };
}

function fitted(evidence, more) {
  const { state, chain } = page.fitter.fit(evidence, page.last);
  const sound = state.transl.every(Number.isFinite) && state.rotmat.every(Number.isFinite);
  page.last = sound ? state : null;
  if (!sound) return null;
  const vertices = page.body.vertices(state, chain);
  return { ...more, vertices, joints: chain.joints, rotmat: state.rotmat, betas: state.betas, transl: state.transl };
}

function fromLandmarks(marks, size) {
  const keypoints = [], space = [];
  page.body.landmark_columns.forEach((column, point) => {
    const { u, v, sure } = marks.points[column];
    const weight = sure > 0 ? Math.max(sure, LEAST_SURE) : 0;
    keypoints.push({ point, u, v, weight });
    if (weight) space.push({ point, xyz: marks.space[column], weight });
  });
  return { keypoints, space, size };
}

function meshPoints(seen) {
  const first = page.body.about.num_landmarks;
  return [...page.body.mesh_rows].map((vertex, k) => ({
    point: first + k,
    xyz: [0, 1, 2].map((a) => seen.vertices[3 * vertex + a]),
    weight: 1,
  }));
}
