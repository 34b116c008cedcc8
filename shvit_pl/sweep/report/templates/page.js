"use strict";

// --- charts: a click on a point opens its cell; a name hides and shows its curve

const hover = JSON.parse(document.getElementById("hover").textContent);
const groups = (name) => document.querySelectorAll(`.chart [id^="${name}-"]`); // in the wide and the narrow drawing

for (const point of groups("point")) {
  const number = point.id.split("-")[1];
  const title = point.insertBefore(document.createElementNS("http://www.w3.org/2000/svg", "title"), point.firstChild);
  title.textContent = hover[number];
  point.addEventListener("click", () => open(number));
}

for (const name of document.querySelectorAll("[data-curve]")) {
  const show = () => groups(`curve-${name.dataset.curve}`).forEach((part) => {
    part.style.display = name.getAttribute("aria-pressed") === "true" ? "" : "none";
  });
  name.addEventListener("click", () => {
    name.setAttribute("aria-pressed", name.getAttribute("aria-pressed") !== "true");
    show();
  });
  show();
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

// --- scrolled to its end, the table begins with a whole column beside the kept one

const frame = table.closest(".scroll");
const padEnd = () => {
  const kept = headers.find((header) => header.classList.contains("kept"));
  if (!kept) return;
  const end = parseFloat(table.style.getPropertyValue("--end")) || 0;
  const hidden = table.offsetWidth - end - frame.clientWidth;
  const steps = headers.slice(headers.indexOf(kept) + 1).map((header) => header.offsetLeft - kept.offsetWidth);
  const step = hidden > 0 ? steps.find((one) => one >= hidden) : undefined;
  const pad = step === undefined ? 0 : step - hidden;
  if (Math.abs(pad - end) > 1) table.style.setProperty("--end", `${pad}px`);
};
new ResizeObserver(padEnd).observe(table);
addEventListener("resize", padEnd);
