// Draws in a worker of its own, so that no drawing ever keeps the page from answering. Each drawing
// is answered when its pixels are there, so that the page sends the newest and no queue grows.

import { Stage } from "./stage.js";

let stage = null;

const TASKS = {
  async open({ over, side, faces, template }) {
    stage = new Stage(over, side, faces);
    await stage.warmUp(template);
    self.postMessage({ task: "open" });
  },
  show({ vertices, camera }) {
    stage.show(vertices, camera);
    stage.finish();
    self.postMessage({ task: "drawn" });
  },
  opacity({ value }) {
    stage.opacity = value;
    stage.draw();
  },
};

self.onmessage = ({ data }) => TASKS[data.task](data);
