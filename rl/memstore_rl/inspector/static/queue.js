// Keys of the queue: each presses the button that does the same.
"use strict";

const form = document.getElementById("labelling");
const armed = document.getElementById("armed");
const help = document.getElementById("help");
const keys = document.getElementById("keys");
let wrong = false;
let number = null; // the digits after n
let sent = false;

keys.checked = localStorage.getItem("memstore-keys") !== "off";
keys.addEventListener("change", () => localStorage.setItem("memstore-keys", keys.checked ? "on" : "off"));

function arm(wrongIsNext, digits = null) {
  wrong = wrongIsNext;
  number = digits;
  const answer = wrong ? "wrong answer" : "right answer";
  if (number !== null) {
    say(`Number of the ${answer}: ${number || "…"} Then Enter; Escape ends this.`);
  } else {
    say(wrong ? "Press the number of the wrong answer, n for one beyond 9, or Escape." : "");
  }
}

function say(text) {
  if (armed) {
    armed.textContent = text;
  }
}

function press(key) {
  const button = document.querySelector(`button[name="key"][value="${key}"]:not(#overwrite)`);
  if (button && !sent) {
    sent = true;
    button.form.requestSubmit(button);
  }
  return Boolean(button);
}

function choose(digits) {
  const chosen = Number(digits);
  const key = wrong ? `x${chosen}` : `${chosen}`;
  arm(false);
  if (!chosen || !press(key)) {
    say(`There is no answer ${digits}.`);
  }
}

function typeNumber(event, key) {
  if (/^[0-9]$/.test(key)) {
    arm(wrong, (number + key).slice(0, 3));
  } else if (key === "backspace") {
    arm(wrong, number.slice(0, -1));
  } else if (key === "enter" && number) {
    choose(number);
  } else if (key === "escape" || key === "n") {
    arm(false);
  } else if (key !== "enter") {
    return;
  }
  event.preventDefault(); // Enter would press the button that has the focus
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (!keys.checked || typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) {
    return;
  }
  const key = event.key.toLowerCase();
  if (number !== null) {
    typeNumber(event, key);
  } else if (key === "?") {
    help.open = !help.open;
  } else if (key === "x" && form) {
    arm(!wrong);
  } else if (key === "n" && form) {
    arm(wrong, "");
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
