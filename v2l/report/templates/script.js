"use strict";
// Without this script everything is there: it sorts tables, shows pictures one at a time and opens what a link leads to.

function sortBy(table, column, header) {
  const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", order);
  const keyOf = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
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

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  target.scrollIntoView();
  const focused = target.matches("details") ? target.querySelector("summary") : target;
  if (!focused.matches("a, button, summary, [tabindex]")) focused.tabIndex = -1;
  focused.focus({preventScroll: true});
}
window.addEventListener("hashchange", openTarget);
openTarget();
