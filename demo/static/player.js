// Players (widgets/player.py): one sound at a time on the whole page; switching between tracks at one position by
// buttons or the keys 1, 2, 3; a repeated part. `demo.show(id)` starts the player in an element.
{
  const page = (window.demo ??= {});

  let sounding = null;
  const alone = (sound) => {
    if (sounding && sounding !== sound) sounding.pause();
    sounding = sound;
  };
  // The event arrives late: what was paused again by then must not silence what plays now.
  document.addEventListener("play", (event) => event.target.paused || alone(event.target), true);
  // Gradio's players are not in the document, so that their events do not arrive above.
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    alone(this);
    return play.call(this);
  };

  let current = null; // the player that the keys are for
  const states = new WeakMap(); // player -> { track, at, from, to, repeat }
  const state = (player) => {
    if (!states.has(player)) states.set(player, { track: sounds(player).length - 1, from: 0, to: Infinity, repeat: false });
    return states.get(player);
  };
  const sounds = (player) => [...player.querySelectorAll("audio")];
  const sound = (player) => sounds(player)[state(player).track];
  const position = (player) => player.querySelector(".position");
  const seconds = (each) => Number(each.dataset.seconds);

  // The position on the time axis of the result; other recordings may be shorter, and start again at their end.
  const seek = (player, at) => {
    const each = sound(player);
    each.currentTime = at % seconds(each);
    position(player).value = at;
    draw(player);
  };

  const draw = (player) => {
    const { track, from, to, repeat } = state(player);
    const length = Number(position(player).max);
    const at = Number(position(player).value);
    player.querySelectorAll(".track").forEach((b, i) => b.setAttribute("aria-pressed", i === track));
    player.querySelectorAll("[data-wave]").forEach((w, i) => w.toggleAttribute("hidden", i !== track));
    player.querySelector(".clock").textContent = `${at.toFixed(1)} / ${length.toFixed(1)} s`;
    player.querySelector(".head").style.left = `${(100 * at) / length}%`;
    player.classList.toggle("playing", !sound(player).paused);
    player.querySelector(".loop").setAttribute("aria-pressed", repeat);
    const part = player.querySelector(".part");
    part.hidden = !repeat;
    part.style.left = `${(100 * from) / length}%`;
    part.style.width = `${(100 * (Math.min(to, length) - from)) / length}%`;
  };

  const choose = (player, track) => {
    const before = sound(player);
    if (!sounds(player)[track] || track === state(player).track) return;
    const plays = !before.paused;
    before.pause();
    state(player).track = track;
    seek(player, Number(position(player).value));
    if (plays) start(player);
  };

  const start = (player) => {
    current = player;
    const { from, to, repeat } = state(player);
    const at = Number(position(player).value);
    if (repeat && (at < from || at >= to - 0.05)) seek(player, from);
    else if (at >= Number(position(player).max) - 0.05) seek(player, 0);
    sound(player).play().catch(() => draw(player)); // a browser may want a press first
    draw(player);
  };

  setInterval(() => {
    for (const player of document.querySelectorAll(".player.playing")) {
      const each = sound(player);
      const { from, to, repeat } = state(player);
      if (each.paused && !each.ended) {
        draw(player);
        continue;
      }
      const before = Number(position(player).value);
      const turn = Math.floor(before / seconds(each) + 1e-6);
      const at = each.ended ? seconds(each) * (turn + 1) : Math.max(before, turn * seconds(each) + each.currentTime);
      const end = Math.min(repeat ? to : Infinity, Number(position(player).max));
      if (at < end - 0.01 && !each.ended) {
        position(player).value = at;
        draw(player);
      } else if (repeat) {
        seek(player, from);
        each.play();
      } else if (at < end - 0.01) {
        seek(player, at + 0.001); // a shorter recording starts again
        each.play();
      } else {
        each.pause();
        position(player).value = position(player).max;
        draw(player);
      }
    }
  }, 30);

  const mark = (player, from, to) => {
    Object.assign(state(player), { from, to, repeat: to - from > 0.05 });
    draw(player);
  };

  document.addEventListener("click", (event) => {
    const player = event.target.closest?.(".player");
    const button = event.target.closest?.("button");
    if (!player || !button) return;
    current = player;
    const at = Number(position(player).value);
    const { from, to, repeat } = state(player);
    if (button.matches(".track")) choose(player, Number(button.dataset.track));
    if (button.matches(".play-all")) sound(player).paused ? start(player) : (sound(player).pause(), draw(player));
    if (button.matches(".from")) mark(player, at, to > at ? to : Infinity);
    if (button.matches(".to")) mark(player, from < at ? from : 0, at);
    if (button.matches(".loop")) {
      state(player).repeat = !repeat;
      draw(player);
    }
  });
  document.addEventListener("input", ({ target }) => {
    if (target.matches?.(".player .position")) seek(target.closest(".player"), Number(target.value));
    if (target.matches?.(".player .format")) {
      const link = target.closest(".player").querySelector(".download");
      link.href = `${link.dataset.address}${target.value}?download`;
      link.download = link.dataset.name + target.value;
    }
  });

  // On the waveform, a press moves the position and a stroke marks the part that is repeated.
  let stroke = null;
  const time = (wave, event) => {
    const { left, width } = wave.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - left) / width)) * Number(position(wave.closest(".player")).max);
  };
  document.addEventListener("pointerdown", (event) => {
    const wave = event.target.closest?.(".player .strip");
    if (wave) stroke = { wave, from: time(wave, event), x: event.clientX };
  });
  document.addEventListener("pointerup", (event) => {
    if (!stroke) return;
    const { wave, from, x } = stroke;
    const player = wave.closest(".player");
    const at = time(wave, event);
    stroke = null;
    if (Math.abs(event.clientX - x) > 5) {
      mark(player, Math.min(from, at), Math.max(from, at));
      seek(player, Math.min(from, at));
    } else seek(player, at);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input:not([type=range], [type=radio], [type=checkbox]), textarea, select")) return;
    if (!current?.isConnected || !current.checkVisibility()) current = [...document.querySelectorAll(".player")].find((p) => p.checkVisibility());
    if (current && /^[1-9]$/.test(event.key)) choose(current, Number(event.key) - 1);
  });

  // Settings that a result was made with, by the id of the element that shows it.
  const made = new Map();
  const signature = (settings) => JSON.stringify(settings, (key, value) => (value?.path ? value.path : value));
  Object.assign(page, {
    made: (id, settings) => made.set(id, signature(settings)),
    // Marks a result as of other settings, or no longer.
    changed(id, settings) {
      const player = document.querySelector(`#${id} .player`);
      if (!player) return;
      const stale = made.get(id) !== signature(settings);
      player.querySelector(".stale").hidden = !stale;
      player.classList.toggle("old", stale);
    },
    // After an action: what it made is in sight.
    reveal(id) {
      const box = document.getElementById(id)?.closest(".outcome");
      (box?.querySelector(".status .error") ?? box)?.scrollIntoView({ block: matchMedia("(max-width: 640px)").matches ? "start" : "nearest" });
    },
    // After an action: the result and its buttons are in sight, and it is heard; or the error is in sight.
    show(id) {
      const box = document.getElementById(id);
      const error = box?.closest(".outcome")?.querySelector(".status .error");
      const player = box?.querySelector(".player");
      if (error) {
        if (player) player.classList.add("old"), (player.querySelector(".stale").hidden = false);
        error.scrollIntoView({ block: "center" });
        return;
      }
      if (!player) return;
      states.delete(player);
      position(player).value = 0;
      player.querySelector(".format").dispatchEvent(new Event("input", { bubbles: true }));
      draw(player);
      box.closest(".outcome").scrollIntoView({ block: matchMedia("(max-width: 640px)").matches ? "start" : "nearest" });
      start(player);
    },
  });
}
