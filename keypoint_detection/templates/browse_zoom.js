// One image, large: zoom, move, layers, and everything that the files say about it.

const zoom = byId("zoom");
const stage = byId("stage");
const picture = byId("picture");
const overlay = byId("overlay");
const readout = byId("readout");
const ZOOM_POINT_PX = 5;
const LARGEST_SCALE = 64;
const PIXELS_SEEN_FROM = 3; // from this scale on, pixels are shown as squares
const VISIBILITY_WORDS = ["absent", "occluded", "visible"];

let opened = -1; // position of the image that is open
let view = { scale: 1, x: 0, y: 0, fitted: true }; // where the image's corner lies on the stage

function openImage(index) {
  state.open = images[index].id;
  setAddress("pushState");
  showOpened();
}

/** Make the page show the image that the state names, or all images. */
function showOpened() {
  const index = state.open ? images.findIndex((image) => image.id === state.open) : -1;
  if (index < 0) {
    state.open = "";
    if (zoom.open) zoom.close();
    return;
  }
  if (!zoom.open) {
    zoom.showModal();
    stage.focus();
  }
  if (index !== opened) showImage(index);
}

function showImage(index) {
  opened = index;
  const image = images[index];
  if (shown.includes(index)) moveCurrent(shown.indexOf(index));
  byId("zoom-title").textContent = image.name.split("/").pop();
  readout.textContent = "";
  showDetails(image);
  loadPicture(index);
  fitView();
}

/** Show the thumbnail at once and the image itself as soon as it is there. */
function loadPicture(index) {
  const image = images[index];
  const source = thumbnail(index);
  picture.style.width = `${image.w}px`;
  picture.style.height = `${image.h}px`;
  if (source) picture.src = source;
  else picture.removeAttribute("src");
  zoom.dataset.picture = source ? "thumbnail" : "none";
  const full = new Image();
  full.onload = () => {
    if (opened !== index) return;
    picture.src = full.src;
    zoom.dataset.picture = "full";
  };
  full.onerror = () => {
    if (opened !== index) return;
    const instead = source ? "the thumbnail stands in" : "there is no thumbnail either";
    byId("notes").append(make("li", { text: `the image itself cannot be shown from here: ${instead}` }));
  };
  full.src = image.src;
}

function fitView() {
  const image = images[opened];
  const scale = Math.min(stage.clientWidth / image.w, stage.clientHeight / image.h, LARGEST_SCALE);
  const x = (stage.clientWidth - image.w * scale) / 2;
  const y = (stage.clientHeight - image.h * scale) / 2;
  view = { scale, x, y, fitted: true };
  drawView();
}

function drawView() {
  const { scale, x, y } = view;
  picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  picture.style.visibility = isLayerOn("picture") ? "" : "hidden";
  picture.classList.toggle("pixels", scale >= PIXELS_SEEN_FROM);
  const box = [-x, -y, stage.clientWidth, stage.clientHeight].map((length) => length / scale);
  overlay.setAttribute("viewBox", box.join(" "));
  drawOverlay(overlay, images[opened], 1 / scale, ZOOM_POINT_PX, true);
}

/** Zoom by a factor about a place of the stage, by default its middle. */
function zoomBy(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const image = images[opened];
  const smallest = Math.min(stage.clientWidth / image.w, stage.clientHeight / image.h, 1) / 2;
  const scale = Math.min(Math.max(view.scale * factor, smallest), LARGEST_SCALE);
  const ratio = scale / view.scale;
  view = { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio, fitted: false };
  drawView();
}

function panBy(x, y) {
  view = { ...view, x: view.x + x, y: view.y + y, fitted: false };
  drawView();
}

/** Open the next image that passes the filters, or the previous one; at an end nothing happens. */
function step(direction) {
  const place = shown.indexOf(opened);
  const next = place < 0 ? (direction > 0 ? 0 : shown.length - 1) : place + direction;
  if (next < 0 || next >= shown.length) return;
  state.open = images[shown[next]].id;
  writeAddress();
  showImage(shown[next]);
}

function closeZoom() {
  if (zoom.open) return; // opened again before the event of closing came
  const place = shown.indexOf(opened); // the browser has given the focus back to the image opened first
  opened = -1;
  if (state.open) {
    state.open = "";
    setAddress("replaceState");
  }
  focusTile(place < 0 ? current : place);
}

function showDetails(image) {
  const facts = [`${image.w} × ${image.h} pixels`, `id ${image.id}`, plural(image.items.length, "instance")];
  if (image.split) facts.push(`split ${image.split}`);
  const parts = [make("p", { class: "path", text: image.name }), make("p", { text: facts.join(" · ") })];
  if (image.predictions) parts.push(make("p", { text: errorText(image) }));
  parts.push(make("ul", { id: "notes" }, ...image.notes.map((text) => make("li", { text }))));
  if (image.findings.length) {
    parts.push(make("h3", { text: plural(image.findings.length, "finding") }));
    parts.push(make("ul", { class: "findings" }, ...image.findings.map(findingItem)));
  }
  byId("details").replaceChildren(...parts, ...image.items.map(itemTable));
  byId("details").scrollTop = 0;
}

function errorText(image) {
  const error = typeof image.error === "number" ? `error ${image.error.toFixed(2)} px` : "no error defined";
  return image.missed ? `${error} · ${plural(image.missed, "label")} missed` : error;
}

function findingItem(finding) {
  const code = make("span", { class: `badge ${finding.severity}`, text: codes[finding.code].code });
  const place = [finding.file, finding.annotation && `annotation ${finding.annotation}`].filter(Boolean);
  const message = place.length ? `${finding.message} (${place.join(", ")})` : finding.message;
  return make("li", {}, code, " ", make("span", { text: message }));
}

function itemTable(item) {
  const { name, keypoints: numbers } = categories[item.category];
  const title = `${name} · annotation ${item.id}${item.crowd ? " · crowd" : ""}`;
  const rows = numbers.map((keypoint, place) => {
    const [x, y, visibility] = item.points.slice(3 * place, 3 * place + 3);
    const shape = visibility ? [swatch(keypoint, VISIBILITY_WORDS[visibility])] : [];
    const cells = [VISIBILITY_WORDS[visibility], ...(visibility ? [x, y].map((v) => v.toFixed(1)) : ["", ""])];
    const head = make("th", { scope: "row" }, ...shape, make("span", { text: keypoints[keypoint].name }));
    return make("tr", {}, head, ...cells.map((text) => make("td", { text })));
  });
  const heads = ["keypoint", "label", "x", "y"].map((text) => make("th", { scope: "col", text }));
  const top = make("thead", {}, make("tr", {}, ...heads));
  return make("table", {}, make("caption", { text: title }), top, make("tbody", {}, ...rows));
}

/** Say where the pointer is, and which point is nearest to it. */
function showReadout(event) {
  const frame = stage.getBoundingClientRect();
  const x = (event.clientX - frame.left - view.x) / view.scale - HALF;
  const y = (event.clientY - frame.top - view.y) / view.scale - HALF;
  let nearest = { distance: 12 / view.scale, text: "" };
  const consider = (text, px, py) => {
    const distance = Math.hypot(px - x, py - y);
    if (distance < nearest.distance) nearest = { distance, text };
  };
  eachPoint(images[opened], (keypoint, px, py, visibility) => {
    if (visibility) consider(` · ${keypoints[keypoint].name}, ${VISIBILITY_WORDS[visibility]}`, px, py);
  });
  for (const [channel, px, py, score] of images[opened].predictions ?? []) {
    if (score < Number(state.score)) continue;
    consider(` · ${channels[channel].name}, predicted with score ${score.toFixed(2)}`, px, py);
  }
  readout.textContent = `x ${x.toFixed(1)}, y ${y.toFixed(1)}${nearest.text}`;
}

const pointers = new Map(); // pointers that are down: one moves the image, two zoom it

function pointerMoved(event) {
  if (opened < 0) return;
  const before = pointers.get(event.pointerId);
  if (!before) return showReadout(event);
  const now = { x: event.clientX, y: event.clientY };
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, now);
  if (!other) return panBy(now.x - before.x, now.y - before.y);
  const frame = stage.getBoundingClientRect();
  const spread = (one) => Math.max(Math.hypot(one.x - other.x, one.y - other.y), 1);
  zoomBy(spread(now) / spread(before), (now.x + other.x) / 2 - frame.left, (now.y + other.y) / 2 - frame.top);
}

function listenOnStage() {
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = stage.getBoundingClientRect();
    const factor = Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.04 : 0.0015));
    zoomBy(factor, event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", pointerMoved);
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  zoom.addEventListener("close", closeZoom);
}
