// The review page: one label at a time, judged and corrected by keys or by hand.

import { Stage, hasWebGL } from "./stage.js";

const find = (id) => document.getElementById(id);
const STEP = 2, LARGE_STEP = 10; // pixels by which an arrow moves a keypoint
const PAUSE = 120; // milliseconds without another arrow after which the body is refitted
const LEAST_SURE = 0.3;
const SVG = "http://www.w3.org/2000/svg";

const state = { status: "opening", words: "", row: -1, frames: [], label: null, chosen: -1, seconds: 0, done: 0 };
window.pchmr = { state };

let stage = null, queue = Promise.resolve(), moving = null;

main().catch((error) => tell("failed", `The page cannot start: ${error.message}. Open the address of the launch that runs.`));

async function main() {
  const faces = new Uint32Array(await (await read("faces.bin")).arrayBuffer());
  find("no-webgl").hidden = hasWebGL();
  if (hasWebGL()) stage = new Stage(find("over"), find("side"), faces);
  if (stage) stage.opacity = Number(find("opacity").value);
  state.frames = (await (await read("frames.json")).json()).frames;
  list();
  for (const id of Object.keys(ACTIONS)) find(id).disabled = false;
  await show(0);
}

async function read(name) {
  const answer = await fetch(name, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${name} was refused (${answer.status})`);
  return answer;
}

async function show(row) {
  state.row = Math.max(0, Math.min(state.frames.length - 1, row));
  state.chosen = -1;
  const mine = state.row, label = await (await read(`label/${mine}`)).json();
  if (mine !== state.row) return;
  const picture = find("picture");
  picture.src = `picture/${mine}`;
  await picture.decode().catch(() => undefined);
  if (mine === state.row) draw(label);
}

function draw(label) {
  state.label = label;
  state.frames[state.row] = label;
  const { width, height, intrinsics: k } = label;
  find("view").style.aspectRatio = `${width} / ${height}`;
  const bytes = Uint8Array.from(atob(label.vertices), (character) => character.charCodeAt(0));
  const scale = Math.min(1, 960 / Math.max(width, height));
  const camera = {
    focal: k[0][0] * scale, cx: k[0][2] * scale, cy: k[1][2] * scale,
    width: Math.round(width * scale), height: Math.round(height * scale),
  };
  stage?.show(new Float32Array(bytes.buffer), camera);
  drawKeypoints();
  find("clip").textContent = `${label.clip}, frame ${label.frame} (${state.row + 1} of ${state.frames.length})`;
  find("verdict").textContent = label.decided ? `${label.status}, as you decided` : label.status;
  find("error").textContent = label.error_mm === null ? "unknown" : `${label.error_mm} mm${label.calibrated ? "" : ", not calibrated"}`;
  find("why").textContent = label.why || "–";
  find("undo").disabled = !label.can_undo;
  list();
  tell("ready", `${label.status}. ${label.why}`.trim());
}

function drawKeypoints() {
  const { label } = state, svg = find("keypoints");
  svg.setAttribute("viewBox", `0 0 ${label.width} ${label.height}`);
  const radius = Math.max(label.width, label.height) / 110;
  svg.replaceChildren(...label.keypoints.flatMap(([x, y, sure], number) => {
    if (x === null || y === null || !(sure > 0)) return [];
    const circle = document.createElementNS(SVG, "circle");
    Object.entries({ cx: x, cy: y, r: radius, "stroke-width": radius / 3 }).forEach((pair) => circle.setAttribute(...pair));
    circle.classList.toggle("unsure", sure < LEAST_SURE);
    circle.classList.toggle("chosen", number === state.chosen);
    circle.dataset.number = number;
    return [circle];
  }));
  find("chosen").textContent = state.chosen < 0 ? "none" : label.keypoint_names[state.chosen];
}

function list() {
  const items = state.frames.map((frame, row) => {
    const item = document.createElement("li"), button = document.createElement("button");
    button.textContent = `${frame.clip}:${frame.frame} ${frame.error_mm === null ? "?" : `${Math.round(frame.error_mm)} mm`}`;
    button.dataset.status = frame.status;
    button.title = frame.status;
    if (row === state.row) button.setAttribute("aria-current", "true");
    button.onclick = () => show(row);
    item.append(button);
    return item;
  });
  find("frames").replaceChildren(...items);
}

// Actions go one after the other; each answer is what is drawn next.
function act(action, more = {}) {
  const row = state.row;
  queue = queue.then(async () => {
    const began = performance.now();
    const said = JSON.stringify({ row, action, ...more });
    const answer = await fetch("act", { method: "POST", headers: { "Content-Type": "application/json" }, body: said });
    if (!answer.ok) throw new Error(`refused (${answer.status})`);
    const { refused, label, row: shown } = await answer.json();
    state.done += 1;
    if (refused) return tell("no-source", refused);
    if (action !== "accept" && action !== "reject") {
      state.seconds = (performance.now() - began) / 1000;
      find("seconds").textContent = `${(1000 * state.seconds).toFixed(0)} ms`;
    }
    state.frames[shown] = label;
    if (["accept", "reject"].includes(action)) return advance(shown);
    if (shown !== state.row) return show(shown);
    draw(label);
  }).catch((error) => tell("failed", `Nothing was done: ${error.message}. Is pchmr review still running?`));
  return queue;
}

// To the next frame that nobody has decided on; at the end it stays.
function advance(row) {
  const open = state.frames.findIndex((frame, at) => at > row && !frame.decided);
  if (open >= 0) return show(open);
  const any = state.frames.findIndex((frame) => !frame.decided);
  if (any >= 0) return show(any);
  return show(row).then(() => tell("finished", "Every frame is decided. pchmr train --data LABELS uses what you accepted."));
}

function choose(step) {
  const known = state.label.keypoints.flatMap(([x, , sure], number) => (x !== null && sure > 0 ? [number] : []));
  const at = known.indexOf(state.chosen);
  state.chosen = known[(at + step + known.length) % known.length] ?? -1;
  drawKeypoints();
}

function move(number, dx, dy) {
  const keypoint = state.label.keypoints[number];
  keypoint[0] += dx;
  keypoint[1] += dy;
  drawKeypoints();
}

// An arrow moves the chosen keypoint; the refit waits until no more arrows come.
function nudge(dx, dy) {
  move(state.chosen, dx, dy);
  clearTimeout(moving);
  const [number, row] = [state.chosen, state.row];
  moving = setTimeout(() => row === state.row && drop(number), PAUSE);
}

function drop(number) {
  const [x, y] = state.label.keypoints[number];
  return act("drag", { keypoint: number, x, y });
}

function tell(status, words) {
  Object.assign(state, { status, words });
  find("status").textContent = words;
  find("status").dataset.status = status;
  document.title = `${status} - pchmr review`;
}

const ACTIONS = {
  accept: () => act("accept"),
  reject: () => act("reject"),
  swap: () => act("swap"),
  refit: () => act("refit"),
  undo: () => act("undo"),
  previous: () => show(state.row - 1),
  next: () => show(state.row + 1),
};
for (const [id, action] of Object.entries(ACTIONS)) find(id).onclick = action;
const KEYS = { a: "accept", r: "reject", s: "swap", f: "refit", u: "undo", p: "previous", n: "next" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input") || !state.label) return;
  const key = event.key.toLowerCase(), arrow = ARROWS[event.key];
  if (KEYS[key]) ACTIONS[KEYS[key]]();
  else if (key === "k") choose(1);
  else if (key === "j") choose(-1);
  else if (key === "m") toggleMesh();
  else if (event.key === "Escape") letGo();
  else if (arrow && state.chosen >= 0) nudge(...arrow.map((side) => side * (event.shiftKey ? LARGE_STEP : STEP)));
  else if (arrow) show(state.row + (arrow[0] + arrow[1]));
  else return;
  event.preventDefault();
});

function letGo() {
  state.chosen = -1;
  drawKeypoints();
}

function toggleMesh() {
  find("opacity").value = Number(find("opacity").value) > 0 ? 0 : 0.6;
  find("opacity").oninput();
}

find("opacity").oninput = () => {
  if (!stage) return;
  stage.opacity = Number(find("opacity").value);
  stage.draw();
};

let dragged = -1;
find("keypoints").onpointerdown = (event) => {
  if (!event.target.dataset.number) return;
  dragged = state.chosen = Number(event.target.dataset.number);
  find("keypoints").setPointerCapture(event.pointerId);
  drawKeypoints();
};
find("keypoints").onpointermove = (event) => {
  if (dragged < 0) return;
  const box = find("view").getBoundingClientRect(), scale = state.label.width / box.width;
  move(dragged, event.movementX * scale, event.movementY * scale);
};
find("keypoints").onpointerup = () => {
  if (dragged >= 0) drop(dragged);
  dragged = -1;
};
