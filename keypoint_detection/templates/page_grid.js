// The grid of thumbnails: only the rows in sight are elements of the page.
// A page gives thumbnail(index), describe(image), makeCaption(image, index) and drawOverlay(...).

const grid = byId("grid");
const space = byId("space");
const GAP_PX = 10;
const CAPTION_PX = 44;
const POINT_PX = 3.5;

let shown = []; // positions of the images that pass the filters, in order
let current = 0; // place in `shown` that has, or had last, the keyboard's focus
let layout = { columns: 1, side: 200, height: 200, row: 254 };
const tiles = new Map(); // place in `shown` -> element

// Frames have the shape of the middle image, within limits: most sets have one shape, and no bars then.
const shapes = images.map((image) => image.h / image.w).sort((a, b) => a - b);
const frameShape = Math.min(Math.max(shapes[shapes.length >> 1] ?? 1, 0.5), 1.25);

/** Fit as many columns as the width allows, at least two. */
function measure() {
  const width = grid.clientWidth - GAP_PX;
  const wanted = width < 600 ? 150 : 220;
  const columns = Math.max(Math.floor(width / (wanted + GAP_PX)), 2);
  const side = Math.floor(width / columns) - GAP_PX;
  const height = Math.round(side * frameShape);
  layout = { columns, side, height, row: height + CAPTION_PX + GAP_PX };
}

function showGrid(rows) {
  shown = rows;
  current = Math.min(current, Math.max(rows.length - 1, 0));
  redrawGrid();
}

/** Make every tile in sight anew. */
function redrawGrid() {
  const hadFocus = grid.contains(document.activeElement);
  measure();
  drawnSize = `${grid.clientWidth} ${grid.clientHeight}`;
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  space.style.height = `${Math.ceil(shown.length / layout.columns) * layout.row + GAP_PX}px`;
  fillSight();
  if (hadFocus) focusTile(current);
}

/** Add the tiles that came into sight, remove those that left it; the tile with the focus stays. */
function fillSight() {
  const first = Math.max(Math.floor(grid.scrollTop / layout.row) - 1, 0) * layout.columns;
  const bottom = Math.ceil((grid.scrollTop + grid.clientHeight) / layout.row) + 1;
  const end = Math.min(bottom * layout.columns, shown.length);
  for (const [place, tile] of tiles) {
    if ((place >= first && place < end) || place === current) continue;
    tile.remove();
    tiles.delete(place);
  }
  for (let place = first; place < end; place += 1) ensureTile(place);
  if (current < shown.length) ensureTile(current);
}

function ensureTile(place) {
  if (tiles.has(place)) return;
  const tile = makeTile(place);
  tiles.set(place, tile);
  space.append(tile);
}

function makeTile(place) {
  const { columns, side, height, row } = layout;
  const image = images[shown[place]];
  const button = make("button", { type: "button", class: "tile", "aria-label": describe(image) });
  button.tabIndex = place === current ? 0 : -1;
  button.append(makeFrame(shown[place], side, height), makeCaption(image, shown[place]));
  button.addEventListener("click", () => openImage(shown[place]));
  button.addEventListener("focus", () => moveCurrent(place));
  const position = { "aria-posinset": place + 1, "aria-setsize": shown.length };
  const tile = make("div", { role: "listitem", class: "cell", "data-image": image.id, ...position }, button);
  tile.style.width = `${side}px`;
  tile.style.height = `${height + CAPTION_PX}px`;
  tile.style.left = `${GAP_PX + (place % columns) * (side + GAP_PX)}px`;
  tile.style.top = `${GAP_PX + Math.floor(place / columns) * row}px`;
  return tile;
}

/** Return the picture with its points, fitted into a frame of this size in pixels of the screen. */
function makeFrame(index, frameWidth, frameHeight, radius = POINT_PX) {
  const image = images[index];
  const scale = Math.min(frameWidth / image.w, frameHeight / image.h);
  const [width, height] = [image.w, image.h].map((length) => Math.max(Math.round(length * scale), 1));
  const frame = make("span", { class: "frame" });
  const [left, top] = [frameWidth - width, frameHeight - height].map((rest) => Math.floor(rest / 2)); // whole pixels
  const box = { left, top, width, height };
  const source = thumbnail(index);
  const picture = source
    ? make("img", { src: source, alt: "", decoding: "async", draggable: "false" })
    : make("span", { class: "no-picture", text: image.notes?.[0] ?? "no picture" });
  if (!isPictureShown()) picture.style.visibility = "hidden";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${image.w} ${image.h}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  drawOverlay(svg, image, image.w / width, radius, false);
  for (const part of [picture, svg]) {
    for (const [name, value] of Object.entries(box)) part.style[name] = `${value}px`;
  }
  frame.style.height = `${frameHeight}px`;
  frame.append(picture, svg);
  return frame;
}

/** Make a tile the one that the tab key reaches. */
function moveCurrent(place) {
  const before = tiles.get(current)?.firstChild;
  if (before) before.tabIndex = -1;
  current = place;
  ensureTile(place);
  tiles.get(place).firstChild.tabIndex = 0;
}

function focusTile(place) {
  if (!shown.length) return;
  const wanted = Math.min(Math.max(place, 0), shown.length - 1);
  const top = Math.floor(wanted / layout.columns) * layout.row;
  if (top < grid.scrollTop) grid.scrollTop = top;
  const lowest = top + layout.row + GAP_PX - grid.clientHeight;
  if (lowest > grid.scrollTop) grid.scrollTop = lowest;
  fillSight();
  ensureTile(wanted);
  tiles.get(wanted).firstChild.focus({ preventScroll: true });
}

function moveFocus(event) {
  const page = Math.max(Math.floor(grid.clientHeight / layout.row), 1) * layout.columns;
  const steps = {
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layout.columns, ArrowDown: layout.columns,
    PageUp: -page, PageDown: page, Home: -shown.length, End: shown.length,
  };
  const step = steps[event.key];
  if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const isOnTile = document.activeElement?.classList.contains("tile");
  focusTile(isOnTile ? current + step : current);
}

let drawnSize = "";

/** Lay the grid out anew when its size has changed. */
function gridResized() {
  const size = `${grid.clientWidth} ${grid.clientHeight}`;
  if (size !== drawnSize) redrawGrid();
}

let scrollFrame = 0;
grid.addEventListener("scroll", () => {
  scrollFrame ||= requestAnimationFrame(() => {
    scrollFrame = 0;
    fillSight();
  });
}, { passive: true });
