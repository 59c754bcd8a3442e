// Reads the page of a training again and again, and puts its figures in place of the old ones. A person can pause it.
"use strict";

const button = document.getElementById("pause");
const state = document.getElementById("refreshing");
const seconds = Number(document.getElementById("live").dataset.every);
let paused = localStorage.getItem("memstore-paused") === "yes";

function show() {
  button.textContent = paused ? "Go on" : "Pause";
  localStorage.setItem("memstore-paused", paused ? "yes" : "no");
}

function tell(text) {
  if (state.textContent !== text) {
    state.textContent = text;
  }
}

async function refresh() {
  const old = document.getElementById("live");
  if (paused || document.hidden || old.contains(document.activeElement) || !getSelection().isCollapsed) {
    return;
  }
  let response;
  try {
    response = await fetch(location.href);
  } catch {
    tell("The service does not answer; trying again.");
    return;
  }
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const fresh = page.getElementById("live");
  if (!fresh) {
    paused = true;
    show();
    tell("The page cannot be read any more; use Reload.");
    return;
  }
  for (const details of old.querySelectorAll("details[open]")) {
    fresh.querySelector(`#${details.id}`)?.setAttribute("open", "");
  }
  old.replaceWith(document.adoptNode(fresh));
  tell("");
}

button.hidden = false;
button.addEventListener("click", () => {
  paused = !paused;
  show();
});
show();
setInterval(refresh, 1000 * seconds);
