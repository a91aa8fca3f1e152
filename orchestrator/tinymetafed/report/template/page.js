"use strict";

const texts = (row) => [...row.cells].map((cell) => cell.textContent);
const isNumber = (text) => text === "" || Number.isFinite(Number(text));

function sortBy(head) {
  const table = head.closest("table");
  const descending = head.ariaSort === "ascending";
  const rows = [...table.tBodies[0].rows];
  const key = (row) => row.cells[head.cellIndex].textContent;
  const numeric = rows.every((row) => isNumber(key(row)));
  const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  rows.sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a === "" || b === "") return (a === "") - (b === ""); // nothing comes last, either way
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.ariaSort = descending ? "descending" : "ascending";
}

function csv(table) {
  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [...table.rows].map((row) => `${texts(row).map(quote).join(",")}\r\n`).join("");
}

function svg(holder) {
  const text = new XMLSerializer().serializeToString(holder.querySelector("svg"));
  return text.replace(/var\(--c(\w+)\)/g, "#$1"); // other programs know no variables
}

function download(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function say(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  setTimeout(() => { status.textContent = ""; }, 3000);
}

function onClick(attribute, action) {
  for (const button of document.querySelectorAll(`[data-${attribute}]`)) {
    const name = button.dataset[attribute];
    button.addEventListener("click", () => action(name, document.getElementById(name)));
  }
}

onClick("svg", (name, holder) => download(`${name}.svg`, "image/svg+xml", svg(holder)));
onClick("csv", (name, table) => download(`${name}.csv`, "text/csv", csv(table)));
onClick("copy", (name, table) => {
  const copied = navigator.clipboard?.writeText(csv(table)) ?? Promise.reject();
  copied.then(() => say("Copied"), () => say("The browser does not let it be copied: download it"));
});

for (const table of document.querySelectorAll("table")) {
  for (const head of table.tHead.rows[0].cells) {
    head.firstChild.addEventListener("click", () => sortBy(head));
  }
  for (const cell of table.tBodies[0].querySelectorAll("td")) {
    if (isNumber(cell.textContent)) cell.className = "number";
  }
}

const theme = document.getElementById("theme");
const useTheme = () => { document.documentElement.style.colorScheme = theme.value; };
theme.addEventListener("change", useTheme);
useTheme(); // a page that is loaded again keeps what was chosen

const run = document.getElementById("run");
function showRun() {
  for (const panel of document.querySelectorAll(".panel")) panel.hidden = panel.id !== run.value;
}
if (run) {
  run.addEventListener("change", showRun);
  showRun();
}
