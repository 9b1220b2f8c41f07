// Chooses what runs the networks by measuring: WebGPU or WASM, and how many threads.
// Threads are fixed for the life of a worker, so every choice is a worker of its own.

const MOST_THREADS = 4;

export async function fastest(about, files, tell) {
  const choices = await choicesHere();
  const timings = {}, kept = { ms: Infinity };
  for (const choice of choices) {
    tell(`Measuring ${choice.words} …`);
    const worker = new Worker(choice.script, { type: "module" });
    try {
      await opened(worker, choice, about, files);
      if (about.has_landmarks) await ask(worker, { task: "openLandmarks", files });
      const { ms } = await ask(worker, { task: "time" });
      timings[choice.words] = ms;
      if (ms < kept.ms) {
        kept.worker?.terminate();
        Object.assign(kept, { ...choice, ms, worker });
      } else {
        worker.terminate();
      }
    } catch (error) {
      timings[choice.words] = null;
      kept.reason = error.message;
      worker.terminate();
    }
  }
  if (!kept.worker) throw new Error(`the network cannot run in this browser (${kept.reason})`);
  const others = Object.entries(timings).map(([words, ms]) => `${words} ${ms === null ? "failed" : `${ms.toFixed(0)} ms`}`);
  if (!choices.some((choice) => choice.provider === "webgpu")) others.push("no WebGPU here");
  if (kept.provider === "webgpu" && about.has_landmarks) others.push(`landmarks on WASM, ${kept.threads} threads`);
  return { ...kept, timings, words: `${kept.words} (${others.join(", ")})` };
}

async function choicesHere() {
  const most = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
  const counts = [...new Set([1, Math.min(2, most), most])];
  const found = counts.map((threads) => ({
    script: "worker.js", suffix: "", threads, provider: "wasm",
    words: `WASM, ${threads} ${threads === 1 ? "thread" : "threads"}`,
  }));
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  // Beside WebGPU, the landmark networks run on the threads of WASM.
  if (adapter) found.unshift({ script: "worker-webgpu.js", suffix: ".asyncify", threads: most, provider: "webgpu", words: "WebGPU" });
  return found;
}

function opened(worker, choice, about, files) {
  const { suffix, threads } = choice;
  const folder = new URL(".", location.href).href;
  return ask(worker, { task: "open", folder, suffix, threads, files, about, model: "model" });
}

function ask(worker, message) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.task === "failed" ? reject(new Error(data.reason)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || "the worker cannot be loaded"));
    worker.postMessage(message);
  });
}
