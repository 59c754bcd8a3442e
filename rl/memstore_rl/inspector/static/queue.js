// Keys of the queue: each presses the button that does the same.
"use strict";

const form = document.getElementById("labelling");
const armed = document.getElementById("armed");
const help = document.getElementById("help");
const keys = document.getElementById("keys");
let wrong = false;
let sent = false;

keys.checked = localStorage.getItem("memstore-keys") !== "off";
keys.addEventListener("change", () => localStorage.setItem("memstore-keys", keys.checked ? "on" : "off"));

function arm(on) {
  wrong = on;
  if (armed) {
    armed.textContent = on ? "Press the number of the wrong answer, or Escape." : "";
  }
}

function press(key) {
  const button = document.querySelector(`button[name="key"][value="${key}"]:not(#overwrite)`);
  if (button && !sent) {
    sent = true;
    button.form.requestSubmit(button);
  }
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (!keys.checked || typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) {
    return;
  }
  const key = event.key.toLowerCase();
  if (key === "?") {
    help.open = !help.open;
  } else if (key === "x" && form) {
    arm(!wrong);
  } else if (key === "escape") {
    arm(false);
  } else if (/^[1-9]$/.test(key)) {
    press(wrong ? `x${key}` : key);
    arm(false);
  } else if (/^[0su]$/.test(key)) {
    press(key);
  }
});

window.addEventListener("pageshow", () => {
  sent = false;
});

const rescored = document.querySelector("#rescored[data-follow]");

async function follow() {
  try {
    const answer = await fetch(rescored.dataset.follow);
    const { running, sentence } = await answer.json();
    if (running) {
      setTimeout(follow, 1000);
    } else {
      rescored.textContent = sentence;
    }
  } catch {
    rescored.textContent = "What was scored again is shown with the next query.";
  }
}

if (rescored) {
  follow();
}
