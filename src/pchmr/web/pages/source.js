// Where frames come from: the camera, a video or a photo. One frame is under way at a time.

const LONGEST = 1280; // pixels of a frame's longer side that are looked at
const MOST_LOOKS = 12; // at a photo
const ENDED = "The camera ended: it was disconnected, or something else took it. Start it again, or drop a file.";
const WORDS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page beside the address, or drop a file.",
  NotFoundError: "There is no camera. Connect one and try again, or drop a file.",
  NotReadableError: "Another program uses the camera. Close it and try again, or drop a file.",
  OverconstrainedError: "The camera gives no usable picture. Drop a file instead.",
};

export class Source {
  static count = 0;

  // `ended` is told in words when a camera ends of itself.
  constructor(video, take, isFree, ended) {
    Object.assign(this, { video, take, isFree, ended });
    this.generation = ++Source.count;
    this.isOn = true;
    this.wants = true;
    this.taken = 0;
    this.looks = 0;
  }

  async camera() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("This browser offers no camera here. Drop a file instead.");
    const wanted = { video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" }, audio: false };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      throw new Error(WORDS[error.name] ?? `The camera cannot be used (${error.message}). Drop a file instead.`);
    }
    if (!this.isOn) return this.stop();
    this.stream.getVideoTracks()[0].onended = () => {
      if (!this.isOn) return;
      this.stop();
      this.ended(ENDED);
    };
    this.holdsVideo = true;
    this.video.srcObject = this.stream;
    await this.play();
  }

  async file(file) {
    if (file.type.startsWith("image/")) return this.photo(file);
    this.address = URL.createObjectURL(file);
    this.holdsVideo = true;
    this.video.srcObject = null;
    this.video.src = this.address;
    this.video.loop = true;
    try {
      await this.play();
    } catch {
      throw new Error(`${file.name} cannot be played here. Drop a photo, or a video that this browser plays.`);
    }
  }

  async photo(file) {
    try {
      this.still = await createImageBitmap(file, { imageOrientation: "from-image" });
    } catch {
      throw new Error(`${file.name} cannot be read. Drop a JPEG, PNG or WebP photo, or a video.`);
    }
    this.send(this.still, performance.now() / 1000);
  }

  async play() {
    await this.video.play();
    this.wait();
  }

  wait() {
    if (!this.isOn) return;
    this.video.requestVideoFrameCallback((now, { mediaTime }) => {
      this.newest = mediaTime;
      if (this.isFree()) this.send(this.video, mediaTime);
      this.wait();
    });
  }

  // The frame was answered: the newest one goes at once, if there is another. A photo is looked at
  // a few times, until the fit rests.
  next() {
    if (this.isOn && this.newest !== undefined && this.newest !== this.sent) this.send(this.video, this.newest);
    if (this.still && this.isOn && this.looks++ < MOST_LOOKS) setTimeout(() => this.isOn && this.send(this.still, performance.now() / 1000), 200);
  }

  async send(picture, seconds) {
    const width = picture.videoWidth ?? picture.width, height = picture.videoHeight ?? picture.height;
    if (!width || !height || this.isCutting) return;
    this.isCutting = true;
    this.sent = seconds;
    const taken = performance.now(), scale = Math.min(1, LONGEST / Math.max(width, height));
    const size = { resizeWidth: Math.round(width * scale), resizeHeight: Math.round(height * scale) };
    const bitmap = await createImageBitmap(picture, scale < 1 ? size : {}).catch(() => null);
    this.isCutting = false;
    if (!bitmap) return;
    if (!this.isOn || !this.isFree()) return bitmap.close();
    this.taken = taken;
    this.take(bitmap, seconds);
  }

  // A source that never got as far as the video element leaves it to the one that plays there.
  stop() {
    this.isOn = false;
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    if (this.holdsVideo) {
      this.video.pause();
      this.video.srcObject = null;
    }
    if (this.address) URL.revokeObjectURL(this.address);
  }
}
