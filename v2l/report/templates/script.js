"use strict";
// Without this script everything is there: it sorts tables, shows pictures one at a time and opens what a link leads to.

function sortBy(table, column, header) {
  const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", order);
  const keyOf = (row) => {
    const cell = row.cells[column];
    const text = (cell.classList.contains("number") ? cell.firstChild : cell).textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  const compare = (left, right) => {
    const numbers = [Number(left), Number(right)];
    return numbers.some(Number.isNaN) ? left.localeCompare(right, "en", {numeric: true}) : numbers[0] - numbers[1];
  };
  const rows = [...table.tBodies[0].rows].map((row) => ({row, key: keyOf(row)}));
  rows.sort((left, right) => {
    if (left.key === null || right.key === null) return (left.key === null) - (right.key === null); // nothing comes last
    return (order === "ascending" ? 1 : -1) * compare(left.key, right.key);
  });
  table.tBodies[0].append(...rows.map(({row}) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(table, column, header));
  });
}

const pictures = [...document.querySelectorAll(".picture")];
const thumbnails = [...document.querySelectorAll(".thumbnails a")];
let current = 0;

function showPicture(number) {
  current = (number + pictures.length) % pictures.length;
  pictures.forEach((picture, place) => { picture.hidden = place !== current; });
  thumbnails.forEach((link, place) => {
    if (place === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
}

function stepButton(text, step) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", () => showPicture(current + step));
  return button;
}

if (pictures.length > 0) {
  const steps = document.createElement("div");
  steps.className = "steps";
  steps.append(stepButton("← Previous", -1), stepButton("Next →", 1));
  pictures[0].before(steps);
  thumbnails.forEach((link, number) => link.addEventListener("click", (event) => {
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    showPicture(number);
  }));
  document.querySelector("#gallery").addEventListener("keydown", (event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step || event.target.closest(".token-map, .scroll")) return;
    event.preventDefault();
    showPicture(current + step);
    if (event.target.closest(".thumbnails")) thumbnails[current].focus();
  });
  showPicture(0);
}

// Of a map of tokens one place is a tab stop; arrow keys go on from there.
for (const map of document.querySelectorAll(".token-map table")) {
  const rows = [...map.rows].map((row) => [...row.querySelectorAll("button")]);
  rows.flat().forEach((button, place) => { button.tabIndex = place === 0 ? 0 : -1; });
  map.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    if (!step) return;
    event.preventDefault();
    const row = rows.findIndex((buttons) => buttons.includes(event.target));
    const column = rows[row].indexOf(event.target);
    const next = rows[row + step[0]]?.[column + step[1]];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const picture = target.closest(".picture");
  if (picture) showPicture(pictures.indexOf(picture));
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  target.scrollIntoView();
  const focused = target.matches("details") ? target.querySelector("summary") : target;
  if (!focused.matches("a, button, summary, [tabindex]")) focused.tabIndex = -1;
  focused.focus({preventScroll: true});
}
window.addEventListener("hashchange", openTarget);
openTarget();
