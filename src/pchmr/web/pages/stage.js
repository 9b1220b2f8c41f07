// Draws a body with three.js: over the picture, and from the side.
// Metres, camera frame (x right, y down, z forward); three.js looks along its own -z with y up.

import * as THREE from "three";

const COLOR = 0x8fb0f2;

export function hasWebGL() {
  return document.createElement("canvas").getContext("webgl2") !== null;
}

export class Stage {
  constructor(over, side, faces) {
    this.scene = new THREE.Scene();
    this.geometry = new THREE.BufferGeometry();
    this.geometry.setIndex(new THREE.BufferAttribute(faces, 1));
    const surface = new THREE.MeshStandardMaterial({ color: COLOR, flatShading: true, roughness: 0.75, side: THREE.DoubleSide });
    this.mesh = new THREE.Mesh(this.geometry, surface);
    this.mesh.frustumCulled = false;
    this.mesh.visible = false;
    this.turned = new THREE.Group();
    this.turned.scale.set(1, -1, -1);
    this.turned.add(this.mesh);
    const light = new THREE.DirectionalLight(0xffffff, 2.2);
    light.position.set(0.6, 1, 1.2);
    this.scene.add(this.turned, new THREE.HemisphereLight(0xffffff, 0x777788, 1.4), light);
    this.over = new THREE.WebGLRenderer({ canvas: over, alpha: true, antialias: false });
    this.side = new THREE.WebGLRenderer({ canvas: side, alpha: true, antialias: false });
    this.eye = new THREE.PerspectiveCamera();
    this.flank = new THREE.OrthographicCamera();
    this.opacity = 0.9;
  }

  // Draws once with everything in view, so that the first frame waits for no shader.
  async warmUp(template) {
    const moved = template.map((value, k) => (k % 3 === 2 ? value + 5 : value));
    this.show(moved, { focal: 768, cx: 320, cy: 240, width: 640, height: 480 });
    await this.over.compileAsync(this.scene, this.eye);
    this.show(null, this.camera);
  }

  // Shows a mesh before a pinhole camera {focal, cx, cy, width, height}; null hides it.
  show(vertices, camera) {
    this.camera = camera;
    this.mesh.visible = vertices !== null;
    if (vertices) {
      this.vertices = vertices;
      const known = this.geometry.getAttribute("position");
      if (known && known.array.length === vertices.length) {
        known.array.set(vertices);
        known.needsUpdate = true;
      } else {
        const attribute = new THREE.BufferAttribute(vertices, 3);
        attribute.setUsage(THREE.DynamicDrawUsage);
        this.geometry.setAttribute("position", attribute);
      }
    }
    this.draw();
  }

  draw() {
    if (!this.camera) return;
    this.resize();
    this.lookFromCamera();
    this.mesh.material.opacity = this.opacity;
    this.mesh.material.transparent = this.opacity < 1;
    this.over.render(this.scene, this.eye);
    if (this.mesh.visible) this.lookFromSide();
    this.mesh.material.transparent = false;
    this.side.render(this.scene, this.flank);
  }

  // Waits until what was drawn is there.
  finish() {
    const gl = this.over.getContext();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  resize() {
    const { width, height } = this.camera;
    for (const [renderer, w, h] of [[this.over, width, height], [this.side, 320, 320]]) {
      const canvas = renderer.domElement;
      if (canvas.width !== w || canvas.height !== h) renderer.setSize(w, h, false);
    }
  }

  lookFromCamera() {
    const { focal, cx, cy, width, height } = this.camera, near = 0.05, far = 100;
    this.eye.projectionMatrix.set(
      (2 * focal) / width, 0, 1 - (2 * cx) / width, 0,
      0, (2 * focal) / height, (2 * cy) / height - 1, 0,
      0, 0, -(far + near) / (far - near), (-2 * far * near) / (far - near),
      0, 0, -1, 0,
    );
    this.eye.projectionMatrixInverse.copy(this.eye.projectionMatrix).invert();
  }

  // From the person's flank: depth lies across, the camera is on the left.
  lookFromSide() {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (let k = 0; k < this.vertices.length; k++) {
      const a = k % 3;
      if (this.vertices[k] < low[a]) low[a] = this.vertices[k];
      if (this.vertices[k] > high[a]) high[a] = this.vertices[k];
    }
    const middle = low.map((value, a) => (value + high[a]) / 2);
    const reach = 0.6 * Math.max(high[1] - low[1], high[2] - low[2]);
    Object.assign(this.flank, { left: -reach, right: reach, top: reach, bottom: -reach, near: 0.01, far: 20 });
    this.flank.position.set(middle[0] + 10, -middle[1], -middle[2]);
    this.flank.lookAt(middle[0], -middle[1], -middle[2]);
    this.flank.updateProjectionMatrix();
  }
}
