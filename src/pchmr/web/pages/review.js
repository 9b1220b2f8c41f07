// The review page: one label at a time, judged and corrected by keys or by hand.

import { Stage, hasWebGL } from "./stage.js";

const find = (id) => document.getElementById(id);
const STEP = 2, LARGE_STEP = 10; // pixels by which an arrow moves a keypoint
const PAUSE = 120; // milliseconds without another arrow after which the body is refitted
const LEAST_SURE = 0.3;
const VERDICTS = ["accept", "reject"];
const SVG = "http://www.w3.org/2000/svg";

const state = { status: "opening", words: "", row: -1, drawn: -1, frames: [], label: null, chosen: -1, seconds: 0, done: 0 };
window.pchmr = { state };

let stage = null, queue = Promise.resolve(), moving = null;
let moves = new Map(); // keypoints of the drawn row that were moved and are not saved yet: number -> [x, y]
const sent = new WeakSet(); // those of the moves that are on their way
let answers = 0, refusals = 0, isDeciding = false, dragged = -1;

main().catch((error) => tell("failed", `The page cannot start: ${error.message}. Open the address of the launch that runs.`));

async function main() {
  const faces = new Uint32Array(await (await read("faces.bin")).arrayBuffer());
  find("no-webgl").hidden = hasWebGL();
  if (hasWebGL()) stage = new Stage(find("over"), find("side"), faces);
  if (stage) stage.opacity = Number(find("opacity").value);
  state.frames = (await (await read("frames.json")).json()).frames;
  find("frames").replaceChildren(...state.frames.map(button));
  for (const id of Object.keys(ACTIONS)) find(id).disabled = false;
  await show(0);
}

async function read(name) {
  const answer = await fetch(name, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${name} was refused (${answer.status})`);
  return answer;
}

// Shows a row; what an action answers while the label is read is newer than what was read.
async function show(row) {
  saveMoves();
  mark(state.row, false);
  state.row = Math.max(0, Math.min(state.frames.length - 1, row));
  mark(state.row, true);
  state.chosen = dragged = -1;
  const mine = state.row, picture = find("picture");
  for (let known = -1; known !== answers;) {
    known = answers;
    const label = await (await read(`label/${mine}`)).json();
    if (mine !== state.row) return;
    if (known === answers) state.frames[mine] = label;
  }
  picture.src = `picture/${mine}`;
  await picture.decode().catch(() => undefined);
  if (mine !== state.row) return;
  moves = new Map();
  draw(state.frames[mine]);
}

function go(row) {
  return show(row).catch((error) => tell("failed", `The frame cannot be shown: ${error.message}. Is pchmr review still running?`));
}

function draw(label) {
  state.label = state.frames[state.row] = label;
  state.drawn = state.row;
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
  fill(state.row);
  tell("ready", `${label.status}. ${label.why}`.trim());
}

function drawKeypoints() {
  const { label } = state, svg = find("keypoints");
  svg.setAttribute("viewBox", `0 0 ${label.width} ${label.height}`);
  const radius = Math.max(label.width, label.height) / 110;
  svg.replaceChildren(...label.keypoints.flatMap(([, , sure], number) => {
    const [x, y] = place(number);
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

// Where a keypoint is: where it was moved to, else where the label has it.
function place(number) {
  return moves.get(number) ?? state.label.keypoints[number].slice(0, 2);
}

// Buttons are made once and filled again, so that none loses the focus.
function button(frame, row) {
  const item = document.createElement("li"), made = document.createElement("button");
  made.onclick = () => go(row);
  item.append(made);
  fill(row, made);
  return item;
}

function buttonOf(row) {
  return find("frames").children[row]?.firstChild;
}

function fill(row, made = buttonOf(row)) {
  const { clip, frame, error_mm: error, status } = state.frames[row];
  made.textContent = `${clip}:${frame} ${error === null ? "?" : `${Math.round(error)} mm`}`;
  made.dataset.status = made.title = status;
}

function mark(row, isCurrent) {
  if (isCurrent) buttonOf(row)?.setAttribute("aria-current", "true");
  else buttonOf(row)?.removeAttribute("aria-current");
}

// What a person asks for of the row that they see: nothing while another one is on its way.
function act(action) {
  const isVerdict = VERDICTS.includes(action);
  if (state.drawn !== state.row || isDeciding) return;
  saveMoves();
  isDeciding = isVerdict;
  return send(state.row, action, {}, isVerdict ? () => (isDeciding = false) : undefined);
}

// Actions go one after the other; each answer is what is drawn next. What waits behind an action
// that is refused was asked for in the belief that it would be done, and is dropped.
function send(row, action, more, end) {
  const asked = refusals;
  queue = queue.then(async () => {
    if (asked !== refusals) return;
    const began = performance.now();
    const { refused, label, row: shown } = await answer({ row, action, ...more });
    answers += 1;
    if (refused) return refuse(refused);
    if (!VERDICTS.includes(action)) {
      state.seconds = (performance.now() - began) / 1000;
      find("seconds").textContent = `${(1000 * state.seconds).toFixed(0)} ms`;
    }
    state.frames[shown] = label;
    fill(shown);
    if (row !== state.row) return;
    if (VERDICTS.includes(action)) return advance(shown);
    if (shown !== row) return show(shown);
    if (state.drawn === row) draw(label);
  }).catch((error) => refuse(`Nothing was done: ${error.message}. Is pchmr review still running?`, "failed"))
    .finally(() => {
      end?.();
      state.done += 1;
    });
  return queue;
}

async function answer(said) {
  const headers = { "Content-Type": "application/json" };
  const found = await fetch("act", { method: "POST", headers, body: JSON.stringify(said) });
  if (!found.ok) throw new Error(found.status < 500 ? `refused (${found.status})` : "the server failed, see its terminal");
  return found.json();
}

// Keypoints go back to where they are saved.
function refuse(words, status = "no-source") {
  refusals += 1;
  moves.clear();
  if (state.label) drawKeypoints();
  tell(status, words);
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
  const [x, y] = place(number);
  moves.set(number, [x + dx, y + dy]);
  drawKeypoints();
}

// An arrow moves the chosen keypoint; the refit waits until no more arrows come.
function nudge(dx, dy) {
  move(state.chosen, dx, dy);
  clearTimeout(moving);
  moving = setTimeout(saveMoves, PAUSE);
}

// Sends what was moved on the row that is drawn. A move made meanwhile is newer than the answer
// and is kept.
function saveMoves() {
  clearTimeout(moving);
  const mine = moves, row = state.drawn;
  for (const [number, to] of mine) {
    if (sent.has(to)) continue;
    sent.add(to);
    send(row, "drag", { keypoint: number, x: to[0], y: to[1] }, () => mine.get(number) === to && mine.delete(number));
  }
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
  previous: () => go(state.row - 1),
  next: () => go(state.row + 1),
};
for (const [id, action] of Object.entries(ACTIONS)) find(id).onclick = action;
const KEYS = { a: "accept", r: "reject", s: "swap", f: "refit", u: "undo", p: "previous", n: "next" };
const TURNS = ["previous", "next"]; // that a held key may repeat
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// A key that is held decides once.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state.label) return;
  const key = event.key.toLowerCase(), arrow = event.target.matches("input") ? null : ARROWS[event.key];
  const isDrawn = state.drawn === state.row;
  const isHeld = event.repeat && !TURNS.includes(KEYS[key]);
  if (KEYS[key] && !isHeld) ACTIONS[KEYS[key]]();
  else if (isDrawn && (key === "k" || key === "j")) choose(key === "k" ? 1 : -1);
  else if (key === "m") toggleMesh();
  else if (event.key === "Escape") letGo();
  else if (arrow && isDrawn && state.chosen >= 0) nudge(...arrow.map((side) => side * (event.shiftKey ? LARGE_STEP : STEP)));
  else if (arrow) go(state.row + (arrow[0] + arrow[1]));
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

find("keypoints").onpointerdown = (event) => {
  if (!event.target.dataset.number || state.drawn !== state.row) return;
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
  if (dragged >= 0) saveMoves();
  dragged = -1;
};
