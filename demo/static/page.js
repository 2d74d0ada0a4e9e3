// What Gradio's page lacks: radio buttons that arrow keys move in, pictures that say nothing twice, and a reload after
// a restart of the server.
{
  // Gradio gives each radio button a group of its own; the browser moves within a group.
  let groups = 0;
  const group = () => {
    for (const set of document.querySelectorAll("fieldset:has(input[type=radio])")) {
      set.dataset.group ??= `group-${(groups += 1)}`;
      for (const radio of set.querySelectorAll("input[type=radio]"))
        if (radio.name !== set.dataset.group) {
          const { checked } = radio;
          radio.name = set.dataset.group;
          radio.checked = checked || radio.getAttribute("aria-checked") === "true";
        }
    }
  };
  // The pictures of Gradio's footer repeat its words to screen readers.
  const quiet = () => document.querySelectorAll('footer img:not([alt=""])').forEach((image) => (image.alt = ""));
  new MutationObserver(() => (group(), quiet())).observe(document, { childList: true, subtree: true, attributeFilter: ["name"] });

  // A restarted server has lost the state of open pages.
  setInterval(async () => {
    if (document.hidden || !window.gradio_config) return;
    const answer = await fetch("gradio_api/app_id").then((a) => a.json()).catch(() => ({}));
    if (answer.app_id && answer.app_id !== window.gradio_config.app_id) location.reload();
  }, 3000);
}
