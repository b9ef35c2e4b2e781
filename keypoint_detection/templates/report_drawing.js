// Labels, predictions and their errors as vectors over a picture.
// A label is hollow and a prediction is a cross: they can be told apart without their colours.

const UNKNOWN_COLOUR = "#ffffff";
const colourOf = (channel) => channels[channel]?.colour ?? UNKNOWN_COLOUR;
const nameOf = (channel) => channels[channel]?.name ?? "unknown";

let emphasised = null; // place of the point that the list of points shows, [x, y]

const isShown = (prediction) => (prediction[PREDICTION_SCORE] ?? 1) >= Number(state.score);

/**
 * Draw the layers that are switched on.
 * unit: image pixels per pixel of the screen; radius: of a point, in pixels of the screen.
 */
function drawOverlay(svg, image, unit, radius, isLarge) {
  svg.replaceChildren();
  if (isLarge && isLayerOn("boxes")) drawBoxes(svg, image, unit);
  if (isLayerOn("skeleton")) drawSkeleton(svg, image, Math.min(radius / 5, 1) * unit);
  const pen = unit * Math.min(radius / 5, 1); // small marks have thin lines
  if (isLayerOn("lines")) drawLines(svg, image, pen);
  if (isLayerOn("labels")) drawLabels(svg, image, pen, radius * unit);
  if (isLayerOn("predictions")) drawPredictions(svg, image, pen, 0.8 * radius * unit);
  if (isLarge && isLayerOn("names")) drawNames(svg, image, unit, radius * unit);
  if (isLarge && emphasised) drawEmphasis(svg, unit, radius * unit);
}

function drawBoxes(svg, image, unit) {
  const paths = new Paths();
  for (const [x, y, width, height] of image.boxes) { // from the corner of the image, as COCO counts boxes
    paths.add("box", `M${x} ${y}h${width}v${height}h${-width}z`);
  }
  paths.parts.set("box-halo", paths.parts.get("box") ?? [""]);
  paths.appendTo(svg, "box-halo", line(unit, "#000", 3.5, 0.5));
  paths.appendTo(svg, "box", line(unit, "#fff", 1.5));
}

/** Keep the points of channels with one point: with more, the file does not say which belong together. */
function single(points, passes) {
  const found = new Map();
  for (const point of points) {
    if (passes(point)) found.set(point[0], found.has(point[0]) ? null : point);
  }
  return found;
}

/** Keep the best prediction of each channel that has at most one label. */
function best(image) {
  const [found, labels] = [new Map(), single(image.labels, isVisibleLabel)];
  for (const point of image.predictions) {
    if (!isShown(point) || labels.get(point[0]) === null) continue;
    const other = found.get(point[0]);
    if (!other || point[PREDICTION_SCORE] > other[PREDICTION_SCORE]) found.set(point[0], point);
  }
  return found;
}

function bones(points) {
  const parts = [];
  for (const ends of skeleton) {
    const [from, to] = ends.map((end) => points.get(end));
    if (from && to) parts.push(`M${from[1] + HALF} ${from[2] + HALF}L${to[1] + HALF} ${to[2] + HALF}`);
  }
  return parts.join("");
}

function drawSkeleton(svg, image, unit) {
  const paths = new Paths();
  const add = (kind, data) => {
    if (!data) return;
    paths.add("bones-halo", data);
    paths.add(kind, data);
  };
  if (isLayerOn("labels")) add("bones", bones(single(image.labels, isVisibleLabel)));
  if (isLayerOn("predictions")) add("bones predicted", bones(best(image)));
  paths.appendTo(svg, "bones-halo", line(unit, "#000", 3, 0.35));
  paths.appendTo(svg, "bones", line(unit, "#fff", 1.4, 0.85));
  const dashes = { "stroke-dasharray": `${4 * unit} ${4 * unit}` };
  paths.appendTo(svg, "bones predicted", { ...line(unit, "#fff", 1.4, 0.85), ...dashes });
}

function drawLines(svg, image, unit) {
  const paths = new Paths();
  for (const [label, prediction] of image.lines) {
    const [from, to] = [image.labels[label], image.predictions[prediction]];
    if (!isShown(to)) continue;
    paths.add("errors", `M${from[1] + HALF} ${from[2] + HALF}L${to[1] + HALF} ${to[2] + HALF}`);
  }
  paths.parts.set("errors-halo", paths.parts.get("errors") ?? [""]);
  paths.appendTo(svg, "errors-halo", line(unit, "#000", 4, 0.7));
  paths.appendTo(svg, "errors", line(unit, "#ff5a4f", 2));
}

function drawLabels(svg, image, unit, r) {
  const paths = new Paths();
  image.labels.forEach((point, place) => {
    if (!isVisibleLabel(point)) return;
    const [channel, x, y, visibility] = point;
    const data = shapePath(channel, x + HALF, y + HALF, r);
    paths.add("halo", data);
    paths.add(`label ${visibility === 2 ? "visible" : "occluded"} channel-${channel}`, data);
    if (!image.found.has(place)) paths.add("missed", shapePath(0, x + HALF, y + HALF, 1.9 * r));
  });
  paths.parts.set("missed-halo", paths.parts.get("missed") ?? [""]);
  paths.appendTo(svg, "missed-halo", line(unit, "#000", 3.5, 0.6));
  const dashes = { "stroke-dasharray": `${3 * unit} ${3.5 * unit}` };
  paths.appendTo(svg, "missed", { ...line(unit, "#ff5a4f", 2), ...dashes });
  paths.appendTo(svg, "halo", line(unit, "#000", 4, 0.6));
  channels.forEach((_, channel) => {
    const outline = line(unit, colourOf(channel), 2.2);
    paths.appendTo(svg, `label visible channel-${channel}`, outline);
    paths.appendTo(svg, `label occluded channel-${channel}`, {
      ...outline, "stroke-dasharray": `${2.2 * unit} ${3 * unit}`,
    });
  });
}

function drawPredictions(svg, image, unit, r) {
  const paths = new Paths();
  image.predictions.forEach((point, place) => {
    if (!isShown(point)) return;
    const [channel, x, y] = point;
    const isMatched = image.matched.has(place);
    const data = crossPath(x + HALF, y + HALF, isMatched ? r : 0.75 * r);
    paths.add(isMatched ? "cross-halo" : "cross-halo extra", data);
    paths.add(`cross ${isMatched ? "matched" : "extra"} channel-${channel}`, data);
  });
  paths.appendTo(svg, "cross-halo extra", line(unit, "#000", 3, 0.5));
  paths.appendTo(svg, "cross-halo", line(unit, "#000", 4, 0.75));
  for (const channel of [...channels.keys(), undefined]) {
    paths.appendTo(svg, `cross extra channel-${channel}`, line(unit, colourOf(channel), 1.2, 0.8));
    paths.appendTo(svg, `cross matched channel-${channel}`, line(unit, colourOf(channel), 2));
  }
}

function drawNames(svg, image, unit, r) {
  const size = 12 * unit;
  const matched = image.predictions.filter((point, place) => image.matched.has(place) && isShown(point));
  const points = isLayerOn("labels") ? image.labels.filter(isVisibleLabel) : matched;
  for (const [channel, x, y] of points) {
    const text = document.createElementNS(SVG, "text");
    text.textContent = nameOf(channel);
    text.setAttribute("x", x + HALF + r + 4 * unit);
    text.setAttribute("y", y + HALF + size / 3);
    text.setAttribute("font-size", size);
    text.setAttribute("stroke-width", 3 * unit);
    svg.append(text);
  }
}

function drawEmphasis(svg, unit, r) {
  const paths = new Paths();
  const data = shapePath(0, emphasised[0] + HALF, emphasised[1] + HALF, 3 * r);
  for (const key of ["emphasis-halo", "emphasis"]) paths.add(key, data);
  paths.appendTo(svg, "emphasis-halo", line(unit, "#000", 5, 0.6));
  paths.appendTo(svg, "emphasis", line(unit, "#fff", 2.5));
}

/** Return a little drawing for legends and lists: visible, occluded, missed, cross or error. */
function swatch(channel, kind = "visible") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "-8 -8 16 16");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  const data = { cross: crossPath(0, 0, 4.5), error: "M-6 0h12" }[kind] ?? shapePath(channel, 0, 0, 4.5);
  const colour = ["error", "missed"].includes(kind) ? "#ff5a4f" : colourOf(channel);
  const paths = new Paths();
  for (const key of ["halo", "mark"]) paths.add(key, data);
  paths.appendTo(svg, "halo", line(1, "#000", 4, 0.65));
  const dashes = ["missed", "occluded"].includes(kind) ? { "stroke-dasharray": "2.2 2.8" } : {};
  paths.appendTo(svg, "mark", { ...line(1, colour, 2), ...dashes });
  return svg;
}
