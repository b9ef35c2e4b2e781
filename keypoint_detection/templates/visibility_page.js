// A click on a heading sorts its table by the column, a second one the other way round.
function countError() {
  document.body.dataset.errors = String(Number(document.body.dataset.errors) + 1);
}
window.addEventListener("error", countError);
document.addEventListener("securitypolicyviolation", countError);

const keyOf = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent;

function compareKeys(one, other) {
  const [first, second] = [Number(one), Number(other)];
  if (!Number.isNaN(first) && !Number.isNaN(second) && one !== "" && other !== "") return first - second;
  return one.localeCompare(other, "en", { numeric: true });
}

for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const falls = heading.getAttribute("aria-sort") === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const known = rows.filter((row) => keyOf(row, column) !== "");
      known.sort((a, b) => compareKeys(keyOf(a, column), keyOf(b, column)));
      if (falls) known.reverse();
      const unknown = rows.filter((row) => keyOf(row, column) === ""); // these stay at the end
      table.tBodies[0].replaceChildren(...known, ...unknown);
    });
  });
}
