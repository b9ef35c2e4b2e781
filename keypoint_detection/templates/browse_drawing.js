// Points, skeletons, boxes and predictions of a data set as vectors over a picture.

const UNKNOWN_COLOUR = "#ffffff"; // of a predicted channel that is no keypoint of the file

const colourOf = (keypoint) => keypoints[keypoint]?.colour ?? UNKNOWN_COLOUR;

/**
 * Draw the layers that are switched on.
 * unit: image pixels per pixel of the screen; radius: of a point, in pixels of the screen.
 */
function drawOverlay(svg, image, unit, radius, withNames) {
  svg.replaceChildren();
  if (isLayerOn("boxes")) drawBoxes(svg, image, unit);
  if (isLayerOn("skeleton")) drawSkeleton(svg, image, unit);
  if (isLayerOn("points")) drawPoints(svg, image, unit, radius * unit);
  if (isLayerOn("predictions")) drawPredictions(svg, image, unit, 1.2 * radius * unit);
  if (withNames && isLayerOn("names")) drawNames(svg, image, unit, radius * unit);
}

function drawBoxes(svg, image, unit) {
  const paths = new Paths();
  for (const { box, crowd } of image.items) {
    if (!box) continue;
    const [x, y, width, height] = box; // from the corner of the image, as COCO counts boxes
    const data = `M${x} ${y}h${width}v${height}h${-width}z`;
    paths.add("box-halo", data);
    paths.add(crowd ? "box crowd" : "box", data);
  }
  paths.appendTo(svg, "box-halo", line(unit, "#000", 3.5, 0.5));
  paths.appendTo(svg, "box", line(unit, "#fff", 1.5));
  paths.appendTo(svg, "box crowd", { ...line(unit, "#fff", 1.5), "stroke-dasharray": `${4 * unit} ${4 * unit}` });
}

function drawSkeleton(svg, image, unit) {
  const paths = new Paths();
  for (const { category, points } of image.items) {
    for (const [from, to] of categories[category].skeleton) {
      if (!points[3 * from + 2] || !points[3 * to + 2]) continue;
      const ends = [from, to].map((end) => `${points[3 * end] + HALF} ${points[3 * end + 1] + HALF}`);
      paths.add("bones", `M${ends[0]}L${ends[1]}`);
    }
  }
  paths.appendTo(svg, "bones", line(unit, "#000", 3.5, 0.5));
  paths.appendTo(svg, "bones", line(unit, "#fff", 1.5, 0.9));
}

function drawPoints(svg, image, unit, r) {
  const paths = new Paths();
  eachPoint(image, (keypoint, x, y, visibility) => {
    if (!visibility) return;
    const data = shapePath(keypoint, x + HALF, y + HALF, r);
    paths.add("halo", data);
    paths.add(`point ${visibility === 2 ? "visible" : "occluded"} keypoint-${keypoint}`, data);
  });
  paths.appendTo(svg, "halo", line(unit, "#000", 4, 0.65));
  for (const keypoint of keypoints.keys()) {
    const colour = colourOf(keypoint);
    const filled = { fill: colour, stroke: "#fff", "stroke-width": unit };
    paths.appendTo(svg, `point occluded keypoint-${keypoint}`, line(unit, colour, 2));
    paths.appendTo(svg, `point visible keypoint-${keypoint}`, filled);
  }
}

function drawPredictions(svg, image, unit, r) {
  const paths = new Paths();
  for (const [channel, x, y, score] of image.predictions ?? []) {
    if (score < Number(state.score)) continue;
    const data = crossPath(x + HALF, y + HALF, r);
    paths.add("cross-halo", data);
    paths.add(`cross channel-${channel}`, data);
  }
  paths.appendTo(svg, "cross-halo", line(unit, "#000", 3.5, 0.75));
  channels.forEach((one, channel) => {
    paths.appendTo(svg, `cross channel-${channel}`, line(unit, colourOf(one.keypoint), 1.6));
  });
}

function drawNames(svg, image, unit, r) {
  const size = 12 * unit;
  eachPoint(image, (keypoint, x, y, visibility) => {
    if (!visibility) return;
    const text = document.createElementNS(SVG, "text");
    text.textContent = keypoints[keypoint].name;
    text.setAttribute("x", x + HALF + r + 4 * unit);
    text.setAttribute("y", y + HALF + size / 3);
    text.setAttribute("font-size", size);
    text.setAttribute("stroke-width", 3 * unit);
    svg.append(text);
  });
}

/** Return a little drawing for legends: a point of this keypoint, or a cross. */
function swatch(keypoint, kind = "visible") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "-8 -8 16 16");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  const data = kind === "cross" ? crossPath(0, 0, 5) : shapePath(keypoint, 0, 0, 5);
  const colour = colourOf(keypoint);
  const paths = new Paths();
  paths.add("halo", data);
  paths.add("mark", data);
  paths.appendTo(svg, "halo", line(1, "#000", 4, 0.65));
  paths.appendTo(svg, "mark", kind === "visible" ? { fill: colour, stroke: "#fff" } : line(1, colour, 2));
  return svg;
}
