// One network in the tab: onnxruntime-web on WebGPU where there is one, else on WASM.

import * as ort from "onnxruntime";

export function setUp(folder, suffix, threads) {
  ort.env.wasm.wasmPaths = {
    mjs: new URL(`ort-wasm-simd-threaded${suffix}.mjs`, folder).href,
    wasm: new URL(`ort-wasm-simd-threaded${suffix}.wasm`, folder).href,
  };
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
}

export class Network {
  static async open(bytes, providers) {
    const options = { executionProviders: providers, graphOptimizationLevel: "all", logSeverityLevel: 3 };
    return new Network(await ort.InferenceSession.create(new Uint8Array(bytes), options));
  }

  constructor(session) {
    this.session = session;
    this.input = session.inputNames[0];
  }

  // Outputs by name; only those asked for are copied out.
  async run(values, shape, names) {
    const wanted = names ?? this.session.outputNames;
    const found = await this.session.run({ [this.input]: new ort.Tensor("float32", values, shape) }, wanted);
    return Object.fromEntries(wanted.map((name) => [name, found[name].data]));
  }
}
