// In the audio thread: sends blocks from the microphone and plays the converted samples in order. Converted sample n
// corresponds to sent sample n, so the difference of the two counts is the delay.
//
// The cushion is the number of samples that must be ready before playback starts. It grows when they run out, and
// shrinks while they do not; what lies in the queue beyond it is skipped. So the delay returns after a jam.
const LEAST = 0.03, MOST = 0.3; // seconds of the cushion
const GROW = 1.5, SHRINK = 0.6;
const CHECK = 2; // seconds from one check to the next
const SPARE = 0.01; // seconds beyond the cushion that are not skipped

registerProcessor("live", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(0.04 * sampleRate));
    this.filled = this.sent = this.played = this.ready = 0;
    this.gaps = this.missing = 0; // times that the samples ran out; samples of silence or skipped
    this.queue = [];
    this.playing = this.started = this.short = false;
    this.cushion = LEAST * sampleRate;
    this.lowest = Infinity; // lowest number of ready samples since the last check
    this.checked = 0; // samples since then
    this.fade = null; // what would have been played in place of what is, after a skip
    this.loudest = [0, 0];
    this.port.onmessage = ({ data }) => { this.queue.push(data); this.ready += data.length; };
  }
  process([input], [output]) {
    const heard = input[0] ?? new Float32Array(128);
    const spoken = output[0];
    for (const sample of heard) {
      this.block[this.filled++] = sample;
      if (this.filled === this.block.length) {
        this.port.postMessage({ block: this.block.slice() });
        this.filled = 0;
      }
    }
    if (!this.playing && this.ready >= this.cushion) this.playing = this.started = true;
    if (this.playing && this.ready < spoken.length) {
      this.playing = false;
      this.short = true;
      this.gaps += 1;
      this.cushion = Math.min(GROW * this.cushion, MOST * sampleRate);
    }
    if (this.playing) {
      this.take(spoken.length, spoken);
      if (this.fade) for (let i = 0; i < spoken.length; i++) spoken[i] += (1 - i / spoken.length) * (this.fade[i] - spoken[i]);
      this.fade = null;
    } else if (this.started) this.missing += spoken.length;
    this.lowest = Math.min(this.lowest, this.ready);
    for (const [i, samples] of [heard, spoken].entries())
      for (const sample of samples) this.loudest[i] = Math.max(this.loudest[i], Math.abs(sample));
    this.sent += heard.length;
    if (this.sent % (64 * 128) === 0) {
      this.port.postMessage({ delay: (this.sent - this.played) / sampleRate, gaps: this.gaps, playing: this.playing,
                              missing: this.missing / sampleRate, loudest: this.loudest });
      this.loudest = [0, 0];
    }
    this.checked += heard.length;
    if (this.checked >= CHECK * sampleRate) this.check();
    return true;
  }
  check() {
    if (this.playing && !this.short) {
      this.cushion = Math.max(SHRINK * this.cushion, LEAST * sampleRate);
      const surplus = Math.floor(this.lowest - this.cushion);
      if (surplus > SPARE * sampleRate) {
        const skipped = new Float32Array(surplus);
        this.take(surplus, skipped);
        this.fade = skipped.subarray(0, 128);
        this.missing += surplus;
      }
    }
    this.lowest = Infinity;
    this.checked = 0;
    this.short = false;
  }
  take(count, into) {
    this.ready -= count;
    this.played += count;
    for (let at = 0; at < count;) {
      const part = this.queue[0].subarray(0, count - at);
      into.set(part, at);
      at += part.length;
      if (part.length === this.queue[0].length) this.queue.shift();
      else this.queue[0] = this.queue[0].subarray(part.length);
    }
  }
});
