// What the reader chooses, the first table, the legend and the charts. Figures and intervals are
// made by Python; here they are only chosen, and laid out.

const data = JSON.parse(document.getElementById("data").textContent);
const NEVER = 1e308; // what JSON has in the place of infinity

// A page that loads itself again, or is loaded again, keeps what was chosen.
const KEPT = `tinymetafed ${location.pathname}`;
let state = {};
try { state = JSON.parse(sessionStorage.getItem(KEPT)) ?? {}; } catch { /* it is not kept */ }
function keep(changes) {
  Object.assign(state, changes);
  try { sessionStorage.setItem(KEPT, JSON.stringify(state)); } catch { /* it is not kept */ }
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function select(name, values, chosen, onChange) {
  const options = values.map(([value, text]) =>
    element("option", { value, selected: String(value) === String(chosen) }, text));
  const made = element("select", { ariaLabel: `${name} axis` }, ...options);
  made.addEventListener("change", () => onChange(made.value));
  return made;
}

// ---- device, radio, baseline ----

let price = data.prices.findIndex((one) => String(one) === String(state.price));
if (price < 0) price = 0;
const baseline = document.getElementById("baseline");
if ([...baseline.options].some((one) => one.value === state.baseline)) baseline.value = state.baseline;
baseline.addEventListener("change", () => { keep({ baseline: baseline.value }); showAll(false); });

const [device, radio] = ["device", "radio"].map((id) => document.getElementById(id));
function showPrices() {
  const options = (values, chosen) => values.map((value) =>
    element("option", { value, selected: value === chosen }, value || "–"));
  const [ofDevice, ofRadio] = data.prices[price];
  device.replaceChildren(...options([...new Set(data.prices.map((one) => one[0]))], ofDevice));
  const radios = data.prices.filter((one) => one[0] === ofDevice).map((one) => one[1]);
  radio.replaceChildren(...options(radios, ofRadio));
  radio.disabled = radios.length < 2;
}
function choosePrice(wanted) {
  const place = data.prices.findIndex((one) => String(one) === String(wanted));
  price = place >= 0 ? place : data.prices.findIndex((one) => one[0] === wanted[0]);
  keep({ price: data.prices[price] });
  showPrices();
  showAll(true);
}
if (device) {
  showPrices();
  for (const one of [device, radio]) {
    one.addEventListener("change", () => choosePrice([device.value, radio.value]));
  }
}

const theme = document.getElementById("theme");
theme.value = state.theme ?? "";
const useTheme = () => { document.documentElement.style.colorScheme = theme.value; };
theme.addEventListener("change", () => { keep({ theme: theme.value }); useTheme(); });
useTheme();

// ---- the sentences and the first table of a task ----

const verdictOf = (task) => task.verdicts[Math.min(price, task.verdicts.length - 1)];
const columnsOf = (task) => verdictOf(task).columns.map((place) => data.columns[place]);
const inFirst = (column) => data.first.includes(column.key); // of a task's two tables
const placeOf = (task, label) => task.strategies.findIndex((one) => one.label === label);

function ratio(task, column, place) {
  const base = placeOf(task, baseline.value);
  return base < 0 || base === place ? "" : column.ratios[base][place];
}

function showVerdict(task, section) {
  const columns = columnsOf(task);
  const part = (one) => {
    if (typeof one === "string") return one;
    const column = columns.find((other) => other.key === one[0]);
    const text = column ? ratio(task, column, one[1]).replace(/ \[.*/, "") : "";
    return text ? element("span", { className: "ratio" }, `, ${text}${text.endsWith("points") ? " to" : ""} ${baseline.value}`) : "";
  };
  section.querySelector(".verdict").replaceChildren(
    ...verdictOf(task).sentences.map((one, i) => element("p", { className: i ? "" : "first" }, ...one.map(part))));
}

const sorting = (task) => state[`sort ${task.stem}`] ?? { key: "score", way: 1 };

function order(task) {
  const { key, way } = sorting(task);
  const column = columnsOf(task).find((one) => one.key === key);
  const places = task.strategies.map((_, i) => i);
  if (!column) return key === "strategy" && way < 0 ? places.reverse() : places;
  const value = (i) => column.entries[i].value ?? NEVER * column.better;
  return places.sort((a, b) => way * column.better * (value(a) - value(b)));
}

function showTables(task, section) {
  const columns = columnsOf(task);
  const second = columns.filter((one) => !inFirst(one));
  showTable(task, section, "table.first", columns.filter(inFirst));
  showTable(task, section, "table.second", second);
  section.querySelector(".more").hidden = !second.length;
  for (const base of section.querySelectorAll(".base")) base.textContent = baseline.value;
}

function showTable(task, section, which, columns) {
  const { key, way } = sorting(task);
  const head = (name, title) => {
    const button = element("button", { type: "button" }, title);
    button.addEventListener("click", () => {
      keep({ [`sort ${task.stem}`]: { key: name, way: name === key ? -way : 1 } });
      showTables(task, section);
    });
    const cell = element("th", { scope: "col" }, button);
    if (name === key) cell.ariaSort = way > 0 ? "ascending" : "descending";
    return cell;
  };
  const best = columns.map((column) => {
    const known = column.entries.map((one) => one.value).filter((one) => one !== null && one < NEVER);
    return known.length > 1 ? column.better * Math.min(...known.map((one) => column.better * one)) : null;
  });
  const alike = new Set(task.strategies.map((one) => one.seeds)).size === 1;
  const rows = order(task).map((i) => {
    const strategy = task.strategies[i];
    const cells = columns.map((column, c) => {
      const entry = column.entries[i];
      const cell = element("td", {}, element("span", { className: "mean" }, entry.text));
      if (entry.value !== null && entry.value === best[c]) cell.className = "best";
      if (entry.interval) cell.append(" ", element("span", { className: "interval" }, entry.interval));
      const compared = ratio(task, column, i);
      if (compared) cell.append(element("span", { className: "ratio" }, compared));
      return cell;
    });
    const name = element("th", { scope: "row" }, swatch(strategy), strategy.label);
    if (strategy.label === baseline.value) name.append(element("span", { className: "ratio" }, "baseline"));
    if (strategy.note) name.append(element("span", { className: "ratio" }, strategy.note));
    return element("tr", {}, name, ...(alike ? [] : [element("td", {}, String(strategy.seeds))]), ...cells);
  });
  const table = section.querySelector(which);
  table.tHead.replaceChildren(element("tr", {}, head("strategy", "strategy"),
    ...(alike ? [] : [element("th", { scope: "col" }, "seeds")]), ...columns.map((one) => head(one.key, one.title))));
  table.tBodies[0].replaceChildren(...rows);
}

function plainTable(task, first) {
  const columns = columnsOf(task).filter((one) => inFirst(one) === first);
  const head = ["strategy", "seeds", ...columns.flatMap((one) => [one.title, `${one.compared} ${baseline.value}`])];
  const rows = order(task).map((i) => [task.strategies[i].label, String(task.strategies[i].seeds),
    ...columns.flatMap((column) => {
      const { text, interval } = column.entries[i];
      return [interval ? `${text} ${interval}` : text, ratio(task, column, i)];
    })]);
  return [head, ...rows];
}

// ---- the legend of a task ----

const SHAPES = { circle: "M-4,0a4,4,0,1,0,8,0a4,4,0,1,0,-8,0", square: "M-3.5,-3.5h7v7h-7Z",
  "triangle-up": "M0,-4L4,3.5L-4,3.5Z", "triangle-down": "M0,4L4,-3.5L-4,-3.5Z",
  "triangle-right": "M4,0L-3.5,4L-3.5,-4Z", diamond: "M0,-5L4,0L0,5L-4,0Z",
  cross: "M-1.4,-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6Z" };

function swatch({ color, fill, dash, marker }) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 34 12", width: 34, height: 12, class: "swatch", "aria-hidden": "true" })) {
    made.setAttribute(key, value);
  }
  const shape = SHAPES[marker];
  const path = (d, properties) => {
    const one = document.createElementNS("http://www.w3.org/2000/svg", "path");
    for (const [key, value] of Object.entries({ d, ...properties })) one.setAttribute(key, value);
    made.append(one);
  };
  const ink = `var(--c${color.slice(1)})`;
  path("M1,6H33", { stroke: ink, "stroke-width": 2, "stroke-dasharray": dash[1] ? dash.join(" ") : "none" });
  path(shape ?? marker, { fill: `var(--c${fill.slice(1)})`, stroke: ink, "stroke-width": shape ? 1.5 : 0.33,
    transform: `translate(17,6) scale(${shape ? 1 : 4.5})` });
  return made;
}

const hidden = (task) => state[`hidden ${task.stem}`] ?? [];

function hide(task, section, labels) {
  keep({ [`hidden ${task.stem}`]: labels });
  for (const button of section.querySelectorAll(".legend button")) {
    button.setAttribute("aria-pressed", String(!labels.includes(button.value)));
  }
  for (const chart of task.charts) {
    if (chart.view) chart.view.signal("hidden", labels).runAsync();
  }
}

function showLegend(task, section) {
  const labels = task.strategies.map((one) => one.label);
  const buttons = task.strategies.map((strategy) => {
    const { label } = strategy;
    const button = element("button", { type: "button", value: label }, swatch(strategy), label);
    button.addEventListener("click", () => {
      const now = hidden(task);
      hide(task, section, now.includes(label) ? now.filter((one) => one !== label) : [...now, label]);
    });
    button.addEventListener("dblclick", () => hide(task, section, labels.filter((one) => one !== label)));
    return button;
  });
  const all = element("button", { type: "button", className: "all" }, "Show all");
  all.addEventListener("click", () => hide(task, section, []));
  section.querySelector(".legend").replaceChildren(...buttons, all);
  hide(task, section, hidden(task).filter((one) => labels.includes(one)));
}

// ---- charts ----

function fill(spec, chosen) {
  if (Array.isArray(spec)) return spec.map((one) => fill(one, chosen));
  if (spec && typeof spec === "object") {
    return Object.fromEntries(Object.entries(spec).map(([key, one]) => [key, fill(one, chosen)]));
  }
  return typeof spec === "string" && Object.hasOwn(chosen, spec) ? chosen[spec] : spec;
}

// As axes() of charts.py.
function axes(name, axis, log) {
  const low = axis.low || axis.value;
  const [under, floor] = name === "y" ? ["low", "datum.floor"] : ["xlow", "datum.x / 10"];
  return {
    [`@${name}.title`]: axis.title, [`@${name}.value`]: axis.value || "0",
    [`@${name}.low`]: low || "0", [`@${name}.clipped`]: log ? `max(datum.${under}, ${floor} / 1.5)` : `datum.${under}`,
    [`@${name}.high`]: axis.high || axis.value || "0",
    [`@${name}.cost`]: `${axis.sign} * datum.${name}`,
    [`@${name}.scale`]: log ? data.log : data.linear, [`@${name}.grid`]: log ? data.decades : 1,
    [`@${name}.shown`]: `isValid(datum.${name})${log ? ` && datum.${name} > 0` : ""}`,
    [`@${name}.positive`]: log ? "datum.q0 > 0" : "true",
  };
}

// As figures.py breaks it; room: in pixels, of which a character takes 6.6.
function broken(axis, room) {
  const most = Math.max(12, Math.floor(room / 6.6));
  const lines = [""];
  for (const word of axis.title.replaceAll(" (", "\u00a0(").split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (longer.length > most && lines.at(-1)) lines.push(word); else lines[lines.length - 1] = longer;
  }
  return { ...axis, title: lines.join(` ${data.config.lineBreak}`) };
}

const axisOf = (choice) => (choice.by_price.length ? choice.by_price[price] : choice.axis);
const withColors = (spec) => fill(spec, Object.fromEntries(
  Object.keys(data.dark).map((color) => [color, `var(--c${color.slice(1)})`])));

function rowsOf(chart, labels) {
  const places = Object.fromEntries(chart.parts.map((part, i) => [part, i]));
  return chart.rows.rows.map((row) => {
    const made = Object.fromEntries(chart.rows.columns.map((column, i) => [column, row[i]]));
    if (typeof made.label === "number") made.label = labels[made.label];
    if ("part" in made) made.place = places[made.part] ?? chart.parts.length;
    return made;
  });
}

const specOf = (chart) => (typeof chart.spec === "number" ? data.specs[chart.spec] : chart.spec);

// The specification with what is chosen and its data, with the colours of paper. A file has a
// legend and a width of its own.
function whole(chart, task, holder, file) {
  const kept = chart.chosen;
  const narrow = holder.clientWidth < 480;
  const x = chart.xs.find((one) => one.key === kept.x) ?? chart.xs[0];
  const y = chart.ys.find((one) => one.key === kept.y) ?? chart.ys[0];
  const axis = x && axisOf(x);
  if (x && !axis) return null; // none of the runs is priced so
  const longest = Math.max(0, ...(task?.strategies ?? []).map((one) => one.label.length));
  const columns = Math.max(1, Math.floor(holder.clientWidth / (50 + 6.5 * longest)));
  const chosen = { "@legend": file ? { columns, symbolDash: [1, 0], symbolOpacity: 1 } : null, "@columns": narrow ? 3 : 6,
    "@width": file ? holder.clientWidth : "container",
    "@height": chart.height, "@bands": kept.bands ? BANDS : 0, "@labels": narrow ? 145 : 260, "@size": 34, "@large": 90,
    "@stack": kept.share ? "normalize" : "zero", "@bounded": kept.share ? "false" : "datum.part == ''" };
  const beside = chart.ys.length ? 70 : 40 + Math.min(chosen["@labels"], 6.6 * longest);
  if (x) {
    const titled = broken(kept.share ? { ...axis, title: "share" } : axis, holder.clientWidth - beside);
    Object.assign(chosen, axes("x", titled, kept.log.includes("x")));
  }
  if (y) Object.assign(chosen, axes("y", broken(axisOf(y), chart.height - 60), kept.log.includes("y")));
  const labels = task?.strategies.map((one) => one.label) ?? [];
  const spec = fill(specOf(chart), chosen);
  if (spec.params && task) spec.params = spec.params.map((one) => (one.name === "hidden" ? { ...one, value: hidden(task) } : one));
  return { ...spec, config: data.config, data: { values: rowsOf(chart, labels), name: "rows" } };
}

async function draw(chart, task, figure) {
  const holder = figure.querySelector(".chart");
  const spec = whole(chart, task, holder);
  if (!spec) {
    chart.view = null;
    holder.replaceChildren(element("p", { className: "note" }, "No run can be priced so: its cycles are not of this core."));
    return;
  }
  const turn = (chart.turn ?? 0) + 1;
  chart.turn = turn;
  // A pattern of the page's colours, so that they change with the scheme, and on paper.
  const made = await vegaEmbed(holder, withColors(spec), { ...QUIET, renderer: "svg", tooltip: { theme: "custom" } });
  if (turn === chart.turn) chart.view = made.view; else made.finalize();
}

async function picture(chart, task, figure, kind) {
  const spec = whole(chart, task, figure.querySelector(".chart"), true);
  if (!spec) return;
  const { view } = await vegaEmbed(element("div"), spec, { ...QUIET, renderer: "svg" });
  const name = `${figure.id}.${kind}`;
  if (kind === "svg") download(name, "image/svg+xml", await view.toSVG());
  else element("a", { href: await view.toImageURL("png", 3), download: name }).click();
  view.finalize();
}

const QUIET = { actions: false, logLevel: 1 }; // errors alone
const BANDS = 0.13; // how opaque
const MOST_BANDS = 8; // of lines, that are told apart

function showChoices(chart, task, figure) {
  const key = `chart ${figure.id}`;
  chart.chosen = { x: chart.x, y: chart.y, log: chart.logarithmic, share: false,
    bands: (task?.strategies.length ?? 0) <= MOST_BANDS, ...state[key] };
  const change = (changes) => {
    Object.assign(chart.chosen, changes);
    keep({ [key]: chart.chosen });
    draw(chart, task, figure);
  };
  const made = [];
  const names = (choices) => choices.map((one) => [one.key, one.name]);
  if (chart.ys.length > 1) made.push(element("label", {}, "y ", select("y", names(chart.ys), chart.chosen.y, (y) => change({ y }))));
  if (chart.xs.length > 1) made.push(element("label", {}, "x ", select("x", names(chart.xs), chart.chosen.x, (x) => change({ x }))));
  const box = (text, checked, onChange) => {
    const input = element("input", { type: "checkbox", checked });
    input.addEventListener("change", () => onChange(input.checked));
    return element("label", {}, input, ` ${text}`);
  };
  for (const name of chart.ys.length ? ["x", "y"] : chart.name.endsWith("-devices") ? ["x"] : []) {
    made.push(box(`log ${name}`, chart.chosen.log.includes(name), (on) => {
      const others = chart.chosen.log.filter((one) => one !== name);
      change({ log: on ? [...others, name] : others });
    }));
  }
  if (chart.name.endsWith("-learning")) made.push(box("bands", chart.chosen.bands, (bands) => change({ bands })));
  if (chart.stacked) made.push(box("as shares", chart.chosen.share, (share) => change({ share })));
  for (const kind of ["svg", "png"]) {
    const button = element("button", { type: "button", title: `Download ${figure.id}.${kind}` }, kind.toUpperCase());
    button.addEventListener("click", () => picture(chart, task, figure, kind));
    made.push(button);
  }
  figure.querySelector(".choices").replaceChildren(...made);
}

// ---- all of it ----

const sections = [...document.querySelectorAll("section.task")].map((section) => [data.tasks[section.dataset.task], section]);

function showAll(redraw) {
  for (const [task, section] of sections) {
    showVerdict(task, section);
    showTables(task, section);
    if (redraw) for (const chart of task.charts) draw(chart, task, document.getElementById(chart.name));
  }
}

for (const [task, section] of sections) {
  showLegend(task, section);
  for (const chart of task.charts) showChoices(chart, task, document.getElementById(chart.name));
  const made = { csv: csvOf, markdown: markdownOf, latex: latexOf };
  for (const button of section.querySelectorAll("[data-copy-as]")) {
    button.addEventListener("click", () => copy(made[button.dataset.copyAs](plainTable(task, !button.closest(".more")))));
  }
}

const run = document.getElementById("run");
async function showRun() {
  const charts = data.runs[run.value].charts;
  const holder = document.getElementById("run-charts");
  holder.replaceChildren(...charts.map((chart) => element("figure", { id: chart.name },
    element("figcaption", {}, element("h3", {}, chart.title.split(": ").slice(1).join(": "))),
    element("div", { className: "choices" }), element("div", { className: "chart" }),
    element("p", { className: "note" }, chart.note))));
  for (const chart of charts) {
    const figure = document.getElementById(chart.name);
    showChoices(chart, null, figure);
    await draw(chart, null, figure);
  }
}
run.value = data.eventful; // the first with most of what is no plain round
if (run.options[state.run]) run.value = state.run;
run.addEventListener("change", () => { keep({ run: run.value }); showRun(); });

showAll(true);
showRun();

const reload = document.getElementById("reload");
if (reload) {
  reload.checked = state.reload ?? true;
  reload.addEventListener("change", () => keep({ reload: reload.checked }));
  setInterval(() => { if (reload.checked) location.reload(); }, 1000 * reload.dataset.seconds);
}
