// Improves the pages; all of them work without it. Formulas that KaTeX cannot read stay as they were written.
"use strict";

for (const element of document.querySelectorAll(".math")) {
  const source = element.textContent;
  try {
    katex.render(element.dataset.tex, element, {
      displayMode: "display" in element.dataset,
      output: "mathml",
      throwOnError: true,
      strict: "ignore",
      maxExpand: 500,
      maxSize: 20,
      trust: false,
    });
  } catch {
    element.textContent = source;
    element.classList.add("broken");
  }
}

const reload = document.querySelector("[data-reload]");
if (reload) {
  setTimeout(() => location.reload(), 1000 * Number(reload.dataset.reload));
}

const query = document.getElementById("query");
if (query instanceof HTMLTextAreaElement) {
  query.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      query.form.requestSubmit();
    }
  });
}

const copy = document.querySelector("[data-copies]");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(copy.dataset.copies).value);
    copy.textContent = "Copied";
  });
}
