// The live tab in the browser: microphone -> server -> loudspeaker. The buttons of the tab call open, run and stop.
{
  const page = (window.demo ??= {});
  const BEHIND = 75; // maximum number of blocks of 40 ms in the queue
  const AT_ONCE = 12; // maximum number of blocks in one request

  let panel = null;
  let session = null;
  const part = (name) => panel.querySelector(`[data-live=${name}]`);
  const tell = (text) => (part("state").textContent = text);
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  // The state, on every tab: `#on-air` of the page's head.
  setInterval(() => {
    const air = document.getElementById("on-air");
    if (!air) return;
    air.hidden = !session?.since;
    if (air.hidden) return;
    if (!air.firstElementChild) {
      air.innerHTML = '<span></span><button type="button" class="chip">Stop</button>';
      air.lastElementChild.onclick = () => page.live.stop();
    }
    const seconds = Math.floor((Date.now() - session.since) / 1000);
    air.firstElementChild.textContent = `Microphone on for ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }, 250);

  const close = (why) => {
    if (!session) return;
    const { context, stream, ticket, recorder } = session;
    if (recorder?.state === "recording") recorder.stop();
    session = null;
    stream.getTracks().forEach((track) => track.stop());
    context.close();
    if (ticket) fetch(`live/${ticket}`, { method: "POST", keepalive: true }).catch(() => {});
    part("in").value = part("out").value = 0;
    part("record").disabled = true;
    part("record").textContent = "Record";
    tell(why);
    document.querySelector("#live-ended")?.click();
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

  const microphone = (id) => ({
    audio: {
      ...(id && { deviceId: { exact: id } }),
      channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false,
    },
  });

  const listen = (mine, stream) => {
    mine.stream.getTracks().forEach((track) => track !== stream.getAudioTracks()[0] && track.stop());
    mine.input?.disconnect();
    mine.stream = stream;
    mine.input = mine.context.createMediaStreamSource(stream);
    mine.input.connect(mine.node);
    stream.getAudioTracks()[0].addEventListener("ended", () => session === mine && mine.stream === stream && close("Stopped: the microphone was unplugged."));
  };

  const reasons = {
    NotAllowedError: "The microphone was refused. Allow it in the browser, then press Start.",
    NotFoundError: "There is no microphone. Plug one in, then press Start.",
    NotReadableError: "Another program has the microphone. Close it there, then press Start.",
  };
  const reason = (error) => reasons[error.name] ?? `The microphone cannot be used: ${error.message}`;

  const list = async () => {
    const devices = await navigator.mediaDevices.enumerateDevices();
    for (const [name, kind] of [["microphone", "audioinput"], ["speaker", "audiooutput"]]) {
      const select = part(name);
      const chosen = select.value;
      select.length = 1;
      for (const { deviceId, label } of devices.filter((d) => d.kind === kind && d.deviceId && d.deviceId !== "default"))
        select.add(new Option(label || deviceId, deviceId));
      select.value = [...select.options].some((o) => o.value === chosen) ? chosen : "";
    }
    part("speakers").hidden = !("setSinkId" in AudioContext.prototype);
  };

  const record = () => {
    if (session.recorder?.state === "recording") return session.recorder.stop();
    const taken = session.context.createMediaStreamDestination();
    session.node.connect(taken);
    const recorder = (session.recorder = new MediaRecorder(taken.stream));
    const pieces = [];
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    recorder.onstop = () => {
      const link = part("recording");
      if (link.href) URL.revokeObjectURL(link.href);
      link.href = URL.createObjectURL(new Blob(pieces, { type: recorder.mimeType }));
      link.download = `vcae live.${recorder.mimeType.includes("mp4") ? "m4a" : "webm"}`;
      link.hidden = false;
      part("record").textContent = "Record";
    };
    recorder.start(1000);
    part("record").textContent = "Stop recording";
  };

  const begin = async (mine) => {
    for (let place; (place = await fetch(`live/${mine.ticket}`).then((a) => a.json(), () => null)); await wait(1000)) {
      if (session !== mine) return;
      if (!place.place) break;
      tell(`All seats are taken. You are number ${place.place} in the line; it starts by itself.`);
    }
    if (session !== mine) return;
    mine.node = new AudioWorkletNode(mine.context, "live", { outputChannelCount: [1] });
    mine.node.port.onmessage = ({ data }) => {
      if (session !== mine) return;
      if (data.block) {
        mine.waiting.push(data.block);
        pump(mine);
        return;
      }
      const devices = (mine.stream.getAudioTracks()[0].getSettings().latency ?? 0) + (mine.context.outputLatency ?? mine.context.baseLatency);
      if (data.playing) part("latency").textContent = `${Math.round(1000 * (data.delay + devices))} ms`;
      part("dropouts").textContent = data.missing
        ? `Dropouts: ${data.gaps}, ${data.missing.toFixed(1)} s missing.` : "No dropouts.";
      part("in").value = Math.sqrt(data.loudest[0]);
      part("out").value = Math.sqrt(data.loudest[1]);
    };
    mine.node.connect(mine.context.destination);
    listen(mine, mine.stream);
    mine.since = Date.now();
    part("record").disabled = !window.MediaRecorder;
    tell("Listening: speak.");
  };

  page.live = {
    show(element) {
      panel = element;
      part("record").addEventListener("click", record);
      part("microphone").addEventListener("change", async ({ target }) => {
        const mine = session;
        if (!mine?.node) return;
        const stream = await navigator.mediaDevices.getUserMedia(microphone(target.value)).catch((error) => tell(reason(error)));
        if (stream && session === mine) listen(mine, stream);
      });
      part("speaker").addEventListener("change", ({ target }) => session?.context.setSinkId(target.value).catch(() => tell("This loudspeaker cannot be used.")));
    },

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
        const stream = await navigator.mediaDevices.getUserMedia(microphone(part("microphone").value));
        const context = new AudioContext({ latencyHint: "interactive" });
        await context.audioWorklet.addModule("page/worklet.js");
        session = { stream, context, waiting: [], busy: false };
        await list();
        if (part("speaker").value) await context.setSinkId(part("speaker").value).catch(() => {});
        return context.sampleRate;
      } catch (error) {
        tell(reason(error));
        return 0;
      }
    },

    // Start with the ticket from the server. Without a ticket, the page already shows the reason.
    run(ticket) {
      if (!session) return false;
      if (!ticket) {
        close("Not started.");
        return false;
      }
      session.ticket = ticket;
      begin(session);
      return true;
    },

    ticket: () => session?.ticket ?? "",
    stop: () => close("Stopped."),
  };
  addEventListener("pagehide", () => session && close(""));
}
