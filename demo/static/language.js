// Translates the page into the language that Gradio has chosen: that of the browser, or of its settings. Gradio
// translates its own texts; this translates those of the page, whoever writes them: Gradio, the server or a script.
// Gradio's way for texts of one's own covers labels, but neither HTML with several texts nor what the server writes
// later. The tables are those of demo/languages/. English texts are their keys; in a key, `{name}` stands for any text,
// which is translated, too.
{
  const ATTRIBUTES = ["aria-label", "title", "placeholder"];
  const SKIPPED = "script, style, textarea, [translate=no]";

  let language = "en";
  let table = null; // null: English
  const choose = () => {
    const texts = window.demo.languages;
    language = document.documentElement.lang;
    const found = texts[language] ?? texts[language.split("-")[0]] ?? {};
    const entries = Object.entries(found);
    const patterns = entries.filter(([key]) => key.includes("{")).map(([key, words]) => {
      const escaped = key.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{(\w+)\}/g, "(?<$1>.+?)");
      return [new RegExp(`^${escaped}$`), words];
    });
    table = entries.length ? { exact: new Map(entries), patterns } : null;
  };

  const lookup = (text) => {
    const key = text.trim().replace(/\s+/g, " ");
    if (table.exact.has(key)) return table.exact.get(key);
    for (const [pattern, words] of table.patterns) {
      const found = pattern.exec(key);
      if (found) return words.replace(/\{(\w+)\}/g, (_, name) => lookup(found.groups[name]));
    }
    return text.trim();
  };
  const translated = (text) => (table && text.trim() ? text.replace(text.trim(), () => lookup(text)) : text);

  // What stood there in English, and what was written in its place.
  const seen = new WeakMap();
  const replace = (node, place, text, write) => {
    const before = seen.get(node) ?? {};
    const english = before[place]?.written === text ? before[place].english : text;
    const written = translated(english);
    if (written === english && !before[place]) return;
    seen.set(node, { ...before, [place]: { english, written } });
    if (written !== text) write(written);
  };
  const visit = (node) => {
    if (node.nodeType === Node.TEXT_NODE) {
      if (!node.parentElement?.closest(SKIPPED)) replace(node, "text", node.data, (text) => (node.data = text));
      return;
    }
    if (node.nodeType !== Node.ELEMENT_NODE || node.matches(SKIPPED)) return;
    for (const name of ATTRIBUTES)
      if (node.hasAttribute(name)) replace(node, name, node.getAttribute(name), (text) => node.setAttribute(name, text));
    node.childNodes.forEach(visit);
  };

  const watcher = new MutationObserver((changes) => {
    if (document.documentElement.lang !== language) {
      choose();
      visit(document.documentElement);
    } else if (table) {
      for (const { type, target, addedNodes } of changes) type === "childList" ? addedNodes.forEach(visit) : visit(target);
    }
    watcher.takeRecords(); // what this has written
  });
  watcher.observe(document, { childList: true, subtree: true, characterData: true, attributeFilter: [...ATTRIBUTES, "lang"] });
}
