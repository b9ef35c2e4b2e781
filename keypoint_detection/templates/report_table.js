// The table of the keypoints: a row per channel, sortable by every column.

const columns = content.perKeypoint?.columns ?? [];
const rows = content.perKeypoint?.rows ?? [];

/** Return the smallest and the largest number of a column, with its intervals. */
function domainOf(place) {
  const numbers = rows.flatMap(({ cells }) => [cells[place]?.value, ...(cells[place]?.interval ?? [])]).filter(isNumber);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  if (low >= 0 && high <= 1 && columns[place].better === "high") return [0, 1];
  return [Math.min(low, 0), niceCeiling(high)];
}

function valueCell(place, cell, [low, high]) {
  const { digits } = columns[place];
  const { value, interval } = cell ?? {};
  const words = interval ? `${formatted(interval[0], digits)} to ${formatted(interval[1], digits)}` : "";
  const number = make("span", { class: "figure", text: formatted(value, digits) });
  const box = make("td", {}, number);
  if (!isNumber(value)) return box;
  box.append(intervalBar(value, interval, low, high));
  if (!words) return box;
  box.title = words;
  box.append(make("span", { class: "hidden-text", text: ` (${words})` }));
  return box;
}

function channelCell(row) {
  const name = String(row.channel);
  const channel = positionOfChannel.get(name);
  const button = make("button", { type: "button", class: "plain", title: "show its images" });
  button.append(swatch(channel), make("span", { text: name }));
  button.addEventListener("click", () => {
    state.channel = name;
    applyState();
    showSection("images");
  });
  const isKnown = channel !== undefined && images.length > 0;
  return make("th", { scope: "row" }, isKnown ? button : make("span", { class: "plain" }, swatch(channel), name));
}

function fillTable() {
  byId("keypoints").hidden = rows.length === 0;
  if (!rows.length) return;
  const heads = [["channel", "Keypoint"], ["labels", "Labels"], ...columns.map((column) => [column.name, labelled(column)])];
  const top = make("tr", {}, ...heads.map(([name, label]) => headCell(name, label)));
  const domains = columns.map((_, place) => domainOf(place));
  rows.forEach((row) => {
    const cells = columns.map((_, place) => valueCell(place, row.cells[place], domains[place]));
    const labels = make("td", {}, make("span", { class: "figure", text: row.labels?.toLocaleString("en") ?? "–" }));
    row.element = make("tr", {}, channelCell(row), labels, ...cells);
  });
  const caption = make("caption", { class: "hidden-text", text: "Numbers of each keypoint" });
  byId("table").append(caption, make("thead", {}, top), make("tbody", {}));
}

function headCell(name, label) {
  const button = make("button", { type: "button", class: "plain", "data-column": name });
  button.append(make("span", { text: label }), make("span", { class: "arrow", "aria-hidden": "true" }));
  button.addEventListener("click", () => {
    const isSame = state.column === name;
    state.direction = isSame ? (state.direction === "up" ? "down" : "up") : firstDirection(name);
    state.column = name;
    sortTable();
    writeAddress();
  });
  return make("th", { scope: "col" }, button);
}

/** The first click puts the worst on top: that is what one looks for. */
function firstDirection(name) {
  if (name === "channel") return "up";
  return columns.find((column) => column.name === name)?.better === "low" ? "down" : "up";
}

function tableKey() {
  const place = columns.findIndex(({ name }) => name === state.column);
  if (place >= 0) return (row) => row.cells[place]?.value ?? null;
  return state.column === "labels" ? (row) => row.labels ?? null : (row) => row.channel;
}

function sortTable() {
  if (!rows.length) return;
  const names = ["channel", "labels", ...columns.map(({ name }) => name)];
  if (!names.includes(state.column)) state.column = "";
  const sign = state.direction === "down" ? -1 : 1;
  const key = tableKey();
  const compare = (a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left === null || right === null) return (left === null) - (right === null); // last
    return sign * (typeof left === "string" ? collator.compare(left, right) : left - right);
  };
  const sorted = state.column ? [...rows].sort(compare) : rows;
  byId("table").tBodies[0].replaceChildren(...sorted.map(({ element }) => element));
  for (const button of byId("table").querySelectorAll("thead button")) {
    const isChosen = button.dataset.column === state.column;
    const word = state.direction === "down" ? "descending" : "ascending";
    button.parentElement.setAttribute("aria-sort", isChosen ? word : "none");
  }
}
