// The open image: its picture, heatmap and marks.

const heatmap = byId("heatmap");
const VISIBILITY_WORDS = ["absent", "occluded", "visible"];

function showImage(index) {
  opened = index;
  emphasised = null;
  const image = images[index];
  if (shown.includes(index)) moveCurrent(shown.indexOf(index));
  byId("zoom-title").textContent = image.name.split("/").pop();
  readout.textContent = "";
  const source = thumbnail(index);
  setSource(picture, source);
  setSource(heatmap, hasHeatmap(image) ? heatmapOf(image.heatmap) : "");
  zoom.dataset.picture = source ? "embedded" : "none";
  byId("opacity-label").hidden = !hasHeatmap(image);
  for (const box of zoom.querySelectorAll('.layers input[value="heatmap"]')) box.disabled = !hasHeatmap(image);
  showDetails(image);
  fitView();
}

const hasHeatmap = (image) => Number.isInteger(image.heatmap);

function setSource(element, source) {
  const { w, h } = images[opened];
  element.style.width = `${w}px`;
  element.style.height = `${h}px`;
  if (source) element.src = source;
  else element.removeAttribute("src");
}

function showPictureLayers() {
  heatmap.style.visibility = isLayerOn("heatmap") ? "" : "hidden";
  heatmap.style.opacity = state.opacity;
}

let isFromGrid = false; // whether the last element with the focus, apart from the viewer, is in the grid

document.addEventListener("focusin", ({ target }) => {
  if (!zoom.contains(target)) isFromGrid = grid.contains(target);
});

/** The browser gives the focus back to a card; a tile may have been replaced by another. */
function focusAfter(place) {
  if (place >= 0 && isFromGrid) focusTile(place);
}

/** Show a point in the middle, large. */
function centreOn(x, y) {
  const fitted = Math.min(stage.clientWidth / images[opened].w, stage.clientHeight / images[opened].h);
  const scale = Math.min(Math.max(view.scale, 3 * fitted), LARGEST_SCALE);
  emphasised = [x, y];
  view = {
    scale, fitted: false,
    x: stage.clientWidth / 2 - (x + HALF) * scale, y: stage.clientHeight / 2 - (y + HALF) * scale,
  };
  drawView();
}

/** Say where the pointer is, and which point is nearest to it. */
function showReadout(event) {
  const { x, y } = placeOf(event);
  const image = images[opened];
  let nearest = { distance: 12 / view.scale, text: "" };
  const consider = (pointX, pointY, text) => {
    const distance = Math.hypot(pointX - x, pointY - y);
    if (distance < nearest.distance) nearest = { distance, text: ` · ${text()}` };
  };
  image.labels.forEach((point, place) => {
    if (isVisibleLabel(point)) consider(point[1], point[2], () => labelText(image, place));
  });
  for (const point of image.predictions) {
    if (isShown(point)) consider(point[1], point[2], () => `${nameOf(point[0])}, ${foundText(point)}, ${scoreText(point)}`);
  }
  readout.textContent = `x ${x.toFixed(1)}, y ${y.toFixed(1)}${nearest.text}`;
}

const isOccluded = (prediction) => prediction[PREDICTION_VISIBILITY] === 1;
const foundText = (point) => (isOccluded(point) ? "predicted as occluded" : "predicted");
const scoreText = (point) => `score ${formatted(point[PREDICTION_SCORE], 2)}`;

function labelText(image, place) {
  const [channel, , , visibility] = image.labels[place];
  const error = errorOf(image, place);
  const found = error === null ? "missed" : `error ${px(error)}`;
  return `${nameOf(channel)}, ${VISIBILITY_WORDS[visibility] ?? "labelled"}, ${found}`;
}
