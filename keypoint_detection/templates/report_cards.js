// What the grid says about an image, and the large cards of the worst, median and best images.

const PICK_WORDS = { worst: "Worst", median: "Median", best: "Best" };
const PICK_POINT_PX = 5;

function factsOf({ error, missed }) {
  const parts = [isNumber(error) ? px(error) : "no error defined"];
  if (missed) parts.push(`${missed} missed`);
  return parts.join(", ");
}

const describe = (image) => `${image.name}, ${factsOf(measured[images.indexOf(image)])}`;

function makeCaption(image, index) {
  const { error, worst, missed } = measured[index];
  const name = make("span", { class: "name", text: image.name.split("/").pop(), title: image.name });
  const facts = [isNumber(error) ? px(error) : "no error"];
  if (state.sort === "worst" && isNumber(worst)) facts.push(`worst ${px(worst)}`);
  if (image.group !== null && image.group !== undefined) facts.push(image.group);
  const words = make("span", { class: "facts" }, make("span", { text: facts.join(" · ") }));
  if (missed) words.append(make("span", { class: "badge error", text: `${missed} missed` }));
  return make("span", { class: "caption" }, name, words);
}

function pickCard(index, side, height) {
  const image = images[index];
  const all = measures(image, -1);
  const button = make("button", { type: "button", class: "tile pick", "aria-label": `${image.name}, ${factsOf(all)}` });
  const name = make("span", { class: "name", text: image.name.split("/").pop(), title: image.name });
  const facts = [`mean ${px(all.error)}`];
  if (isNumber(all.worst)) facts.push(`worst ${px(all.worst)}`);
  const words = make("span", { class: "facts" }, make("span", { text: facts.join(" · ") }));
  if (all.missed) words.append(make("span", { class: "badge error", text: `${all.missed} missed` }));
  button.append(makeFrame(index, side, height, PICK_POINT_PX), make("span", { class: "caption" }, name, words));
  button.addEventListener("click", () => openImage(index));
  button.dataset.row = index;
  return button;
}

/** Lay the picked images out: as many columns as the width allows. */
function showPicks() {
  const picked = images.map((_, index) => index).filter((index) => images[index].pick in PICK_WORDS);
  byId("examples").hidden = picked.length === 0;
  if (!picked.length) return;
  const width = byId("picks").clientWidth;
  const columns = Math.min(Math.max(Math.floor(width / 290), 1), 4);
  const side = Math.floor((width - (columns - 1) * 14) / columns) - 2; // the border of a card
  const parts = Object.entries(PICK_WORDS).flatMap(([pick, word]) => {
    const chosen = picked.filter((index) => images[index].pick === pick);
    chosen.sort((a, b) => (pick === "best" ? 1 : -1) * bySeverity(images[a], images[b]));
    if (!chosen.length) return [];
    const box = make("div", { class: "pick-row" }, ...chosen.map((index) => pickCard(index, side, pickHeight(side))));
    return [make("h3", { text: word }), box];
  });
  byId("picks").style.setProperty("--columns", columns);
  byId("picks").style.setProperty("--side", `${side + 2}px`);
  byId("picks").replaceChildren(...parts);
}

/** Draw the marks over the large cards anew; the cards stay, and with them the keyboard's focus. */
function redrawPicks() {
  for (const card of byId("picks").querySelectorAll(".pick")) {
    const image = images[Number(card.dataset.row)];
    const svg = card.querySelector(".frame > svg");
    drawOverlay(svg, image, image.w / parseFloat(svg.style.width), PICK_POINT_PX, false);
  }
}

/** A missed label is worse than any error. */
const bySeverity = (a, b) => (a.missed ?? 0) - (b.missed ?? 0) || (a.error ?? 0) - (b.error ?? 0);

const pickHeight = (side) => Math.round(side * frameShape);

/** Say how the marks over the images are read. */
function fillMarks() {
  const kinds = [
    ["visible", "label"], ["occluded", "occluded label"], ["cross", "prediction"],
    ["error", "error"], ["missed", "missed label"],
  ];
  byId("marks").append(...kinds.map(([kind, text]) => make("span", { class: "key" }, swatch(0, kind), text)));
}
