// Plays one cell of the table at a time. A second press stops it.
const player = new Audio();
let pressed = null;
const quiet = () => {
  player.pause();
  if (pressed) pressed.classList.remove("playing");
  pressed = null;
};
player.addEventListener("ended", quiet);
element.addEventListener("click", (event) => {
  const button = event.target.closest("button.play");
  if (!button) return;
  const again = button === pressed;
  quiet();
  if (again) return;
  pressed = button;
  button.classList.add("playing");
  player.src = button.dataset.sound;
  player.play();
});
