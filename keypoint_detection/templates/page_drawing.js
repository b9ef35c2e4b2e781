// Shapes as vectors over a picture.
// An SVG counts from the corner of the image, a label from the centre of its first pixel: half a pixel apart.

const SVG = "http://www.w3.org/2000/svg";
const HALF = 0.5;

function shapePath(keypoint, x, y, r) {
  switch (Math.floor(keypoint / 7) % 4) { // each round of the 7 colours has a shape of its own
    case 1:
      return `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
    case 2:
      return `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`;
    case 3:
      return `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.1 * r}h${-2.4 * r}z`;
    default:
      return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
  }
}

const crossPath = (x, y, r) => `M${x - r} ${y - r}l${2 * r} ${2 * r}M${x - r} ${y + r}l${2 * r} ${-2 * r}`;

/** Collect path data by key: however many points there are, there is one element per kind. */
class Paths {
  constructor() {
    this.parts = new Map();
  }
  add(key, data) {
    if (!this.parts.has(key)) this.parts.set(key, []);
    this.parts.get(key).push(data);
  }
  appendTo(parent, key, attributes) {
    if (!this.parts.has(key)) return;
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", this.parts.get(key).join(""));
    path.setAttribute("class", key);
    for (const [name, value] of Object.entries(attributes)) path.setAttribute(name, value);
    parent.append(path);
  }
}

/** Return the attributes of a line; its width is in pixels of the screen. */
function line(unit, colour, width, opacity = 1) {
  return {
    fill: "none", stroke: colour, "stroke-width": width * unit, "stroke-opacity": opacity,
    "stroke-linecap": "round",
  };
}
