// What the browser keeps: voices of one's own, presets, the last settings and the last recording. All of it stays in
// IndexedDB; the server gets the voices that a request needs (`demo.attach`).
{
  const page = (window.demo ??= {});
  const open = new Promise((resolve, reject) => {
    const request = indexedDB.open("vcae", 1);
    request.onupgradeneeded = () => ["voices", "presets", "settings"].forEach((name) => request.result.createObjectStore(name));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    setTimeout(reject, 5000); // a browser may never answer; all that the page does would wait for it
  });
  // A browser that keeps nothing, as in some private windows, still converts; it forgets at the end.
  const memory = { voices: new Map(), presets: new Map(), settings: new Map() };
  const ask = async (store, mode, act) => {
    const db = await open;
    return new Promise((resolve, reject) => {
      const request = act(db.transaction(store, mode).objectStore(store));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  };
  const put = (store, key, given) => {
    const value = given?.blob ? given : JSON.parse(JSON.stringify(given)); // Gradio's values cannot be stored as they are
    memory[store].set(key, value);
    return ask(store, "readwrite", (s) => s.put(value, key)).catch(() => {});
  };
  const drop = (store, key) => {
    memory[store].delete(key);
    return ask(store, "readwrite", (s) => s.delete(key)).catch(() => {});
  };
  const loaded = (async () => {
    for (const store of Object.keys(memory)) {
      const keys = await ask(store, "readonly", (s) => s.getAllKeys()).catch(() => []);
      const values = await ask(store, "readonly", (s) => s.getAll()).catch(() => []);
      keys.forEach((key, i) => memory[store].set(key, values[i]));
    }
  })();
  const kept = () => ({
    voices: [...memory.voices.keys()],
    presets: [...memory.presets.keys()],
    settings: Object.fromEntries([...memory.settings].filter(([key]) => key !== "source")),
  });

  const download = (name, bytes) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

  Object.assign(page, {
    skip: (count) => Array(count).fill({ __type__: "update" }),
    // What is kept, for the controls of the page.
    async kept() {
      await loaded;
      return kept();
    },
    async keep(entry) {
      await loaded;
      let name = entry.name;
      for (let i = 2; memory.voices.has(name); i++) name = `${entry.name} ${i}`;
      await put("voices", name, entry);
      await put("settings", "voice", name);
      return kept();
    },
    async remove(name) {
      await drop("voices", name);
      await put("settings", "voice", Object.keys(page.samples)[0]);
      if (memory.settings.get("second") === name) await put("settings", "second", "-");
      return { ...kept(), removed: name };
    },
    save(name) {
      for (const [i, file] of Object.values(memory.voices.get(name).voices).entries())
        download(`${name}${i ? ` ${i + 1}` : ""}.voice`, bytes(file));
    },
    preview(name) {
      const { excerpt } = memory.voices.get(name) ?? {};
      for (const sound of document.querySelectorAll("[data-preview]")) {
        const src = page.samples[name] ? `samples/${page.samples[name]}` : excerpt;
        sound.hidden = !src;
        if (src) sound.src = src;
      }
    },
    // The last argument becomes the voices of one's own that the others name.
    async attach(...settings) {
      await loaded;
      const names = settings.filter((each) => memory.voices.has(each));
      return [...settings.slice(0, -1), Object.fromEntries(names.map((name) => [name, memory.voices.get(name)]))];
    },
    remember: (role, value) => put("settings", role, value),
    async keepPreset(name, ...values) {
      if (name.trim()) await put("presets", name.trim(), values);
      return kept();
    },
    async removePreset(name) {
      await drop("presets", name);
      return kept();
    },
    preset: (name) => memory.presets.get(name),

    // The recording that is converted. `own` tells one's own from a sample.
    own: false,
    ready: false, // whether what was kept is known
    async source(file) {
      page.own = Boolean(file) && !Object.values(page.samples).includes(file.path.split(/[\\/]/).pop());
      if (!page.own) return drop("settings", "source");
      const blob = await fetch(file.url).then((a) => (a.ok ? a.blob() : null), () => null);
      if (blob) await put("settings", "source", { name: file.orig_name ?? file.path.split(/[\\/]/).pop(), blob });
    },
    async lastSource() {
      await loaded;
      page.ready = true;
      const last = memory.settings.get("source");
      if (!last) return page.skip(1);
      const form = new FormData();
      form.append("files", new File([last.blob], last.name, { type: last.blob.type }));
      const answer = await fetch("gradio_api/upload", { method: "POST", body: form }).catch(() => null);
      if (!answer?.ok) return page.skip(1);
      const [path] = await answer.json();
      page.own = true;
      return [{ path, url: `${location.origin}${location.pathname}gradio_api/file=${path}`, orig_name: last.name, meta: { _type: "gradio.FileData" } }];
    },
  });

  document.addEventListener("click", async (event) => {
    if (!event.target.matches?.(".forget")) return;
    for (const store of Object.keys(memory)) for (const key of [...memory[store].keys()]) await drop(store, key);
    location.reload();
  });
}
