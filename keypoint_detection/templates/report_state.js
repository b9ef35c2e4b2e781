// What the report holds, and its state: how things are sorted, what is filtered, which image is open.

const channels = content.channels ?? [];
const skeleton = content.skeleton ?? [];
const charts = content.charts ?? {};

const NONE = "*none*";
const LAYERS = ["labels", "predictions", "skeleton", "lines", "names", "boxes", "heatmap"];
const LAYER_NAMES = ["labels", "predictions", "skeleton", "error lines", "names", "boxes", "heatmap"];

// Places in a point, after channel, x and y; the visibility of a prediction is there where it is occluded.
const [LABEL_VISIBILITY, PREDICTION_SCORE, PREDICTION_VISIBILITY] = [3, 3, 4];

/** Points name their channel by its position; the name itself is understood too. */
const positionOfChannel = new Map(channels.map(({ name }, channel) => [name, channel]));

function prepare(image) {
  for (const kind of ["labels", "predictions", "lines", "boxes"]) image[kind] ??= [];
  for (const point of [...image.labels, ...image.predictions]) {
    if (typeof point[0] === "string") point[0] = positionOfChannel.get(point[0]);
  }
  image.folded = image.name.toLowerCase();
  image.found = new Map(image.lines); // position of a label -> position of its prediction
  image.matched = new Set(image.found.values());
}
images.forEach(prepare);

/** Return a score from which on nearly all the predictions that found a label are shown, at most 0.1. */
function usualScore() {
  const scores = images.flatMap(({ predictions, matched }) =>
    [...matched].map((place) => predictions[place][PREDICTION_SCORE] ?? 1));
  scores.sort((a, b) => a - b);
  const low = scores[Math.floor(scores.length / 50)] ?? 0.1;
  return String(Math.max(Math.min(Math.floor(low * 100) / 100, 0.1), 0));
}

const DEFAULTS = {
  column: "", direction: "",
  errors: "all", threshold: "",
  q: "", channel: "", group: "", missed: "", sort: "error", order: "down",
  score: usualScore(), opacity: "0.8", layers: "labels,predictions,skeleton,lines,names",
  open: "",
};
Object.assign(state, DEFAULTS);

const embedded = pictureReader("pictures", content.picturesPerBlock, "jpeg");
const heatmapOf = pictureReader("heatmaps", content.heatmapsPerBlock, "png");
const thumbnail = (index) => (Number.isInteger(images[index].picture) ? embedded(images[index].picture) : "");

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const px = (value) => (isNumber(value) ? `${value.toFixed(value < 10 ? 2 : 1)} px` : "undefined");

/** Return a number with as many digits as asked for, or as suit its size; a dash where it is undefined. */
function formatted(value, digits) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  return value.toFixed(digits ?? (size <= 1 ? 3 : size < 100 ? 2 : 1));
}

const isVisibleLabel = ([channel, x, y, visibility]) =>
  channel !== undefined && visibility > 0 && isNumber(x) && isNumber(y);

/** Return how far a label is from its prediction in pixels; null where it was missed. */
function errorOf(image, place) {
  const found = image.predictions[image.found.get(place)];
  if (!found) return null;
  return Math.hypot(found[1] - image.labels[place][1], found[2] - image.labels[place][2]);
}

/** Return error, worst and missed of an image: of all its points, or of one channel. */
function measures(image, channel) {
  if (channel < 0) return { error: image.error ?? null, worst: image.worst ?? null, missed: image.missed ?? 0 };
  const places = [...image.labels.keys()].filter(
    (place) => image.labels[place][0] === channel && isVisibleLabel(image.labels[place]));
  const errors = places.map((place) => errorOf(image, place)).filter((error) => error !== null);
  const sum = errors.reduce((total, error) => total + error, 0);
  return {
    error: errors.length ? sum / errors.length : null,
    worst: errors.length ? Math.max(...errors) : null,
    missed: places.length - errors.length,
    labels: places.length,
  };
}
