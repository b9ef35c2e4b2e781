// One image, large: open and close it, zoom and move it with wheel, fingers and mouse.
// A page gives showImage(index), showPictureLayers(), showReadout(event), focusAfter(place) and drawOverlay(...).

const zoom = byId("zoom");
const stage = byId("stage");
const picture = byId("picture");
const overlay = byId("overlay");
const readout = byId("readout");
const ZOOM_POINT_PX = 5;
const LARGEST_SCALE = 64;
const PIXELS_SEEN_FROM = 3; // from this scale on, pixels are shown as squares

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
  for (const one of stage.querySelectorAll("img")) {
    one.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    one.classList.toggle("pixels", scale >= PIXELS_SEEN_FROM);
  }
  showPictureLayers();
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
  focusAfter(place);
}

/** Return where an event of the pointer is, in pixels of the image. */
function placeOf(event) {
  const frame = stage.getBoundingClientRect();
  const x = (event.clientX - frame.left - view.x) / view.scale - HALF;
  const y = (event.clientY - frame.top - view.y) / view.scale - HALF;
  return { x, y };
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
  new ResizeObserver(() => {
    if (opened >= 0) view.fitted ? fitView() : drawView();
  }).observe(stage);
}
