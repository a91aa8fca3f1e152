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

const csvOf = (rows) => {
  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return rows.map((row) => `${row.map(quote).join(",")}\r\n`).join("");
};
const csv = (table) => csvOf([...table.rows].map(texts));

function markdownOf([head, ...rows]) {
  const line = (row) => `| ${row.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return [head, head.map((_, i) => (i ? "---:" : "---")), ...rows].map(line).join("");
}

function latexOf([head, ...rows]) {
  const signs = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "×": "$\\times$", "≤": "$\\le$", "≥": "$\\ge$", "−": "$-$", "–": "--", ">": "$>$", "<": "$<$",
    "µ": "\\textmu{}", "÷": "$\\div$", "∞": "$\\infty$", "…": "\\dots{}" };
  const safe = (text) => text.replace(/(?<![\w.)])-(?=[\d.])/g, "−")
    .replace(/[\\&%$#_{}~^×÷≤≥−–><µ∞…]/g, (one) => signs[one] ?? `\\${one}`);
  const line = (row) => `${row.map(safe).join(" & ")} \\\\\n`;
  return `\\begin{tabular}{l${"r".repeat(head.length - 1)}}\n\\toprule\n${line(head)}\\midrule\n`
    + `${rows.map(line).join("")}\\bottomrule\n\\end{tabular}\n`;
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

function copy(text) {
  const copied = navigator.clipboard?.writeText(text) ?? Promise.reject();
  copied.then(() => say("Copied"), () => say("The browser does not let it be copied: download it"));
}

function onClick(attribute, action) {
  for (const button of document.querySelectorAll(`[data-${attribute}]`)) {
    const name = button.dataset[attribute];
    button.addEventListener("click", () => action(name, document.getElementById(name)));
  }
}

onClick("csv", (name, table) => download(`${name}.csv`, "text/csv", csv(table)));
onClick("copy", (name, table) => copy(csv(table)));

for (const table of document.querySelectorAll("table.sorted")) {
  for (const head of table.tHead.rows[0].cells) {
    head.firstChild.addEventListener("click", () => sortBy(head));
  }
  for (const cell of table.tBodies[0].querySelectorAll("td")) {
    if (isNumber(cell.textContent)) cell.className = "number";
  }
}
