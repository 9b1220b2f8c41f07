// The live page: a camera or a dropped file in, the mesh over it. Nothing is sent anywhere.

import { readArrays } from "./arrays.js";
import { fastest } from "./threads.js";
import { Source } from "./source.js";

const find = (id) => document.getElementById(id);
const WINDOW = 2000; // milliseconds over which the rate is told
const NOBODY = "Nobody is in view. Step back until head and hips are in the picture.";
const BLIND = " Without the landmarks the page cannot tell whether somebody is there.";

const state = {
  status: "opening", words: "", provider: "", threads: 0, timings: {}, meshes: 0, frames: 0,
  fps: 0, latency: 0, longest: 0, last: null, saved: null, hasLandmarks: false,
};
window.pchmr = { state };
// A page that reads pictures has no use for a way to send them past its server.
for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection", "WebTransport"]) delete window[name];

let worker = null, stage = null, source = null, isBusy = false, isRecording = false, shown = [];
let painted = null, waiting = null; // the frame that is being drawn, and the newest after it
let endedBy = ""; // why a recording ended of itself

main().catch((error) => tell("failed", `The page cannot start: ${error.message}. Reload it, or start pchmr live again.`));

async function main() {
  watchMainThread();
  tell("opening", "Loading the model …");
  const about = await (await read("live.json")).json();
  describe(about);
  state.hasLandmarks = about.has_landmarks;
  if (about.refusal) return tell("failed", about.refusal);
  const names = ["body", "model", ...(about.has_landmarks ? ["detector", "landmarks"] : [])];
  const buffers = await Promise.all(names.map(async (name) => (await read(`${name}.bin`)).arrayBuffer()));
  const files = Object.fromEntries(names.map((name, k) => [name, buffers[k]]));
  await openStage(readArrays(files.body));
  tell("opening", "Measuring what is fastest here …");
  const found = await fastest(about, files, (words) => tell("opening", words));
  worker = found.worker;
  worker.onmessage = ({ data }) => ANSWERS[data.task]?.(data);
  worker.onerror = () => tell("failed", "The worker stopped. Reload the page.");
  Object.assign(state, { provider: found.provider, threads: found.threads, timings: found.timings });
  find("runs-on").textContent = found.words;
  enable(true);
  worker.postMessage({ task: "forget" });
  tell("ready", "Ready. Start the camera, or drop a photo or a video here.");
}

// The painter's canvases are handed over: it draws in a worker of its own.
async function openStage({ faces, template }) {
  const hasWebGL = document.createElement("canvas").getContext("webgl2") !== null;
  find("no-webgl").hidden = hasWebGL;
  if (!hasWebGL) return;
  const [over, side] = ["over", "side"].map((id) => find(id).transferControlToOffscreen());
  stage = new Worker("painter.js", { type: "module" });
  await new Promise((resolve, reject) => {
    stage.onmessage = ({ data }) => (data.task === "open" ? resolve() : drawn());
    stage.onerror = (event) => reject(new Error(event.message || "the painter cannot be loaded"));
    stage.postMessage({ task: "open", over, side, faces, template }, [over, side]);
  });
}

async function read(name) {
  const answer = await fetch(name, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${name} was refused (${answer.status})`);
  return answer;
}

function describe(about) {
  find("model").textContent = `${about.model} (${about.form})`;
  find("hash").textContent = about.sha256;
  find("version").textContent = about.version;
  find("cost").textContent = about.cost;
  find("landmarks").textContent = about.landmarks;
}

const ANSWERS = {
  frame({ number, bitmap, camera, seen, ms, isFull }) {
    isBusy = false;
    if (number !== source?.generation || !source.isOn) {
      bitmap.close();
      return source?.next();
    }
    waiting?.bitmap.close();
    waiting = { number, bitmap, camera, seen, ms, taken: source.taken };
    if (!painted) paint();
    count(seen);
    if (isFull && isRecording) record("The recording was full and was stopped.");
    if (isFree()) source.next();
  },
  save({ format, count, blob }) {
    state.saved = { format, count, bytes: blob?.size ?? 0 };
    if (blob) offer(blob, `pchmr-recording.${format}`);
    const words = blob ? `${count} frames saved as ${format}.` : "Nothing was recorded: nobody was in view.";
    tellRecorder(`${endedBy} ${words}`.trim());
  },
  failed({ during, reason }) {
    isBusy = false;
    tell("failed", `The network failed (${during}): ${reason}. Reload the page; if it stays, export the model again.`);
  },
};

// Has the newest frame drawn: its mesh first, which takes longest.
function paint() {
  painted = waiting;
  waiting = null;
  const { seen, camera } = painted;
  if (stage) return stage.postMessage({ task: "show", vertices: seen?.vertices ?? null, camera });
  show(painted);
  painted = null;
}

// The painter has drawn a mesh: now its picture is shown, so that no mesh stands beside its person.
// Meshes count when they can be seen.
function drawn() {
  const { number, seen, taken } = painted, now = performance.now();
  if (number === source?.generation) show(painted);
  else painted.bitmap.close();
  painted = null;
  if (waiting) {
    paint();
    if (isFree()) source.next();
  }
  if (number !== source?.generation || !source.isOn) return;
  if (seen) {
    state.meshes += 1;
    shown.push(now);
  }
  shown = shown.filter((then) => now - then < WINDOW);
  const span = shown.length > 1 ? now - shown[0] : 0;
  state.fps = span ? (1000 * (shown.length - 1)) / span : 0;
  state.latency = now - taken;
  find("fps").textContent = state.fps.toFixed(1);
  find("latency").textContent = `${state.latency.toFixed(0)} ms`;
}

function show({ bitmap, camera, seen, ms }) {
  const picture = find("picture");
  state.last = seen && { vertices: seen.vertices, keypoints: seen.keypoints, joints: seen.joints, camera, ms };
  if (picture.width !== camera.width || picture.height !== camera.height) {
    picture.width = camera.width;
    picture.height = camera.height;
    find("view").style.aspectRatio = `${camera.width} / ${camera.height}`;
  }
  picture.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
  bitmap.close();
}

function count(seen) {
  state.frames += 1;
  if (state.status === "failed") return;
  if (seen) tell("running", RUNNING());
  else tell("nobody", NOBODY);
}

// A frame is looked at when it can be drawn, so that the network leaves time to the painter; a
// recording takes every frame that the network can.
function isFree() {
  return !isBusy && (!waiting || isRecording);
}

function take(bitmap, seconds) {
  isBusy = true;
  worker.postMessage({ task: "frame", bitmap, number: source.generation, seconds }, [bitmap]);
}

async function begin(open) {
  source?.stop();
  worker.postMessage({ task: "forget" });
  waiting?.bitmap.close();
  waiting = null;
  shown = [];
  state.last = null;
  const ended = (words) => mine === source && lose(words);
  const mine = (source = new Source(find("video"), take, isFree, ended));
  try {
    await open(mine);
    if (mine !== source || !mine.isOn) return;
    tell("running", RUNNING());
    find("stop").disabled = false;
  } catch (error) {
    if (mine !== source) return;
    mine.stop();
    lose(error.message);
  }
}

function lose(words) {
  find("stop").disabled = true;
  tell("no-source", words);
}

const RUNNING = () => `Running.${state.hasLandmarks ? "" : BLIND}`;

function stop() {
  source?.stop();
  find("stop").disabled = true;
  tell("ready", "Stopped. Start the camera, or drop a photo or a video here.");
}

// Begins a recording, or ends it and has it saved; `why` where nobody asked for its end.
function record(why = "") {
  if (!isRecording && !source?.isOn) return tellRecorder("Nothing can be recorded yet: start the camera or drop a file first.");
  isRecording = !isRecording;
  endedBy = why;
  if (isRecording) tellRecorder("Recording …");
  find("record").textContent = isRecording ? "Stop and save" : "Record";
  find("record").setAttribute("aria-pressed", String(isRecording));
  worker.postMessage(isRecording ? { task: "record" } : { task: "save", format: find("format").value });
}

function offer(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function enable(isOn) {
  for (const id of ["camera", "file", "record"]) find(id).disabled = !isOn;
}

function tellRecorder(words) {
  find("recorder").textContent = words;
}

function tell(status, words) {
  state.status = status;
  if (state.words === words) return;
  state.words = words;
  find("status").textContent = words;
  find("status").dataset.status = status;
  document.title = `${status} - pchmr live`;
}

// How long anything kept the main thread from answering, since the page was ready.
function watchMainThread() {
  if (!PerformanceObserver.supportedEntryTypes.includes("longtask")) return;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (["running", "nobody"].includes(state.status)) state.longest = Math.max(state.longest, entry.duration);
    }
  }).observe({ type: "longtask", buffered: false });
}

find("camera").onclick = () => begin((mine) => mine.camera());
find("stop").onclick = stop;
find("record").onclick = () => record();
find("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = "";
  if (file) begin((mine) => mine.file(file));
};
find("opacity").oninput = ({ target }) => {
  stage?.postMessage({ task: "opacity", value: Number(target.value) });
};
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    const [file] = kind === "drop" ? event.dataTransfer.files : [];
    if (file && worker) begin((mine) => mine.file(file));
  });
}
const KEYS = { c: "camera", s: "stop", r: "record", o: "file" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  const button = find(KEYS[event.key.toLowerCase()] ?? "");
  if (button && !button.disabled) button.click();
});
