"use strict";

const charts = JSON.parse(document.getElementById("charts").textContent);
const isTouch = matchMedia("(pointer: coarse)").matches;

// --- charts: colours of the text follow the page, light or dark

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const lines = { gridcolor: colour("--line"), linecolor: colour("--line") };
  const sides = Object.entries(lines).flatMap(([key, value]) => [[`xaxis.${key}`, value], [`yaxis.${key}`, value]]);
  return {
    "font.color": colour("--text"),
    "font.family": "system-ui, sans-serif",
    "font.size": 13,
    "hoverlabel.bgcolor": colour("--card"),
    "hoverlabel.bordercolor": colour("--quiet"),
    "hoverlabel.font.color": colour("--text"),
    "hoverlabel.align": "left",
    dragmode: isTouch ? false : "zoom", // a finger scrolls the page
    ...Object.fromEntries(sides),
  };
}

async function paint(chart, name) {
  await Plotly.relayout(chart, theme());
  if (name === "points") { // rings of the Pareto front
    const text = getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
    await Plotly.restyle(chart, { "marker.line.color": text }, [1]);
  }
  chart.dataset.painted = "true";
}

for (const [name, { data, layout }] of Object.entries(charts)) {
  const chart = document.getElementById(`chart-${name}`);
  Plotly.newPlot(chart, data, layout, { responsive: true, displayModeBar: false }).then(() => {
    paint(chart, name);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(chart, name));
    if (name === "points") {
      chart.on("plotly_click", ({ points }) => open(points[0].customdata));
    }
  });
}

// --- a cell's runs

function open(number) {
  document.getElementById(`cell-${number}`)?.showModal();
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // the backdrop
}

// --- the table: open, sort, filter

const table = document.getElementById("table");
const body = table.tBodies[0];
const headers = [...table.tHead.rows[0].cells];

body.addEventListener("click", (event) => open(event.target.closest("tr").dataset.cell));

function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent;
  const number = text.trim() === "" ? NaN : Number(text);
  return { number, text };
}

function compare(one, other) {
  if (!Number.isNaN(one.number) && !Number.isNaN(other.number)) return one.number - other.number;
  return one.text.localeCompare(other.text, undefined, { numeric: true });
}

function sort(header, column) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of headers) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const keyed = [...body.rows].map((row) => ({ row, ...value(row, column) }));
  const isKnown = ({ text }) => text.trim() !== "";
  const known = keyed.filter(isKnown).sort((one, other) => (descending ? compare(other, one) : compare(one, other)));
  body.append(...[...known, ...keyed.filter((one) => !isKnown(one))].map(({ row }) => row)); // unknown ones last
}

headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => sort(header, column)));

const find = document.getElementById("find");
const selects = [...document.querySelectorAll(".filters select")];

function filter() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of body.rows) {
    const chosen = (select) => [...row.cells].find((cell) => cell.dataset.choice === select.dataset.choice).textContent;
    const matches = selects.every((select) => !select.value || chosen(select) === select.value);
    const text = `${row.textContent} ${row.dataset.text}`.toLowerCase();
    row.hidden = !(matches && words.every((word) => text.includes(word)));
  }
  const shown = [...body.rows].filter((row) => !row.hidden).length;
  document.getElementById("count").textContent = `${shown} of ${body.rows.length}`;
}

find.addEventListener("input", filter);
selects.forEach((select) => select.addEventListener("change", filter));
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
