// The live tab in the browser: microphone -> server -> loudspeaker. `element` is the panel. The buttons of the
// tab call live.open, live.run and live.stop.

// Runs in the audio thread: sends blocks from the microphone and plays the converted samples in order.
// Converted sample n corresponds to sent sample n, so the difference of the two counts is the latency.
const WORKLET = `
registerProcessor("live", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(0.04 * sampleRate));
    this.filled = this.sent = this.played = this.ready = this.underruns = 0;
    this.queue = [];
    this.playing = false;
    this.cushion = 0.03 * sampleRate;  // samples that must be ready before playback starts
    this.lowest = Infinity;  // lowest number of ready samples since the last check
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
    if (!this.playing && this.ready >= this.cushion) this.playing = true;
    if (this.playing && this.ready < spoken.length) {
      this.playing = false;
      this.underruns += 1;
      this.cushion = Math.min(1.5 * this.cushion, 0.3 * sampleRate);
    }
    if (this.playing) this.take(spoken.length, spoken);
    this.lowest = Math.min(this.lowest, this.ready);
    for (const [i, samples] of [heard, spoken].entries())
      for (const sample of samples) this.loudest[i] = Math.max(this.loudest[i], Math.abs(sample));
    this.sent += heard.length;
    if (this.sent % (64 * 128) === 0) {
      this.port.postMessage({ latency: (this.sent - this.played) / sampleRate, underruns: this.underruns,
                              playing: this.playing, loudest: this.loudest });
      this.loudest = [0, 0];
    }
    if (this.sent % (2048 * 128) === 0) {  // every few seconds: skip samples if the queue was never short
      if (this.playing && this.lowest > 2 * this.cushion) this.take(Math.round(this.lowest - this.cushion));
      this.lowest = Infinity;
    }
    return true;
  }
  take(count, into) {
    this.ready -= count;
    this.played += count;
    for (let at = 0; at < count;) {
      const part = this.queue[0].subarray(0, count - at);
      if (into) into.set(part, at);
      at += part.length;
      if (part.length === this.queue[0].length) this.queue.shift();
      else this.queue[0] = this.queue[0].subarray(part.length);
    }
  }
});`;

const BEHIND = 75; // maximum number of blocks of 40 ms in the queue
const AT_ONCE = 12; // maximum number of blocks in one request

let session = null;
const part = (name) => element.querySelector(`[data-live=${name}]`);
const tell = (text) => (part("state").textContent = text);

const close = (why) => {
  if (!session) return;
  const { context, stream, ticket } = session;
  session = null;
  stream.getTracks().forEach((track) => track.stop());
  context.close();
  if (ticket) fetch(`live/${ticket}`, { method: "POST", keepalive: true }).catch(() => {});
  part("in").value = part("out").value = 0;
  tell(why);
};

const pump = async (mine) => {
  if (mine.busy) return;
  mine.busy = true;
  while (session === mine && mine.waiting.length) {
    if (mine.waiting.length > BEHIND)
      return close("Stopped: the computer that runs this page cannot keep up. Close other programs, then press Start.");
    const body = new Blob(mine.waiting.splice(0, AT_ONCE));
    const answer = await fetch(`live/${mine.ticket}`, { method: "POST", body }).catch(() => null);
    if (session !== mine) return;
    if (!answer?.ok) return close("Stopped: the connection was lost. Press Start to go on.");
    const sound = new Float32Array(await answer.arrayBuffer());
    if (sound.length) mine.node.port.postMessage(sound, [sound.buffer]);
  }
  mine.busy = false;
};

window.live = {
  // Open the microphone. Returns its sample rate in Hz, or 0 after showing the reason on the page.
  async open() {
    close("");
    if (!window.isSecureContext || !navigator.mediaDevices) {
      tell("Browsers give the microphone only to pages on this computer (http://localhost) or over https.");
      return 0;
    }
    if (!window.AudioWorkletNode) {
      tell("This browser cannot do it; a recent Chrome, Edge, Firefox or Safari can.");
      return 0;
    }
    try {
      const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      const context = new AudioContext({ latencyHint: "interactive" });
      await context.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" })));
      session = { stream, context, waiting: [], busy: false };
      return context.sampleRate;
    } catch (error) {
      const reasons = {
        NotAllowedError: "The microphone was refused. Allow it in the browser, then press Start.",
        NotFoundError: "There is no microphone. Plug one in, then press Start.",
        NotReadableError: "Another program has the microphone. Close it there, then press Start.",
      };
      tell(reasons[error.name] ?? `The microphone cannot be used: ${error.message}`);
      return 0;
    }
  },

  // Start with the ticket from the server. Without a ticket, the page already shows the reason.
  run(ticket) {
    if (!session) return;
    if (!ticket) return close("Not started.");
    const mine = session;
    const { context, stream } = mine;
    mine.ticket = ticket;
    mine.node = new AudioWorkletNode(context, "live", { outputChannelCount: [1] });
    mine.node.port.onmessage = ({ data }) => {
      if (session !== mine) return;
      if (data.block) {
        mine.waiting.push(data.block);
        pump(mine);
        return;
      }
      const microphone = stream.getAudioTracks()[0].getSettings().latency ?? 0;
      const devices = microphone + (context.outputLatency ?? context.baseLatency);
      if (data.playing) {
        part("latency").textContent = `${Math.round(1000 * (data.latency + devices))} ms`;
        part("detail").textContent =
          `from mouth to ear; ${Math.round(1000 * devices)} of them microphone and loudspeaker, as far as the ` +
          `browser knows. ${data.underruns} underruns.`;
      }
      part("in").value = Math.sqrt(data.loudest[0]);
      part("out").value = Math.sqrt(data.loudest[1]);
    };
    context.createMediaStreamSource(stream).connect(mine.node).connect(context.destination);
    stream.getAudioTracks()[0].addEventListener("ended", () => close("Stopped: the microphone was unplugged."));
    tell("Listening: speak.");
  },

  stop: () => close("Stopped."),
};
addEventListener("pagehide", () => close(""));
