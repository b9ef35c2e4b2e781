// Which images pass the filters, and in which order.

const ABSENT = 1, OCCLUDED = 2, VISIBLE = 4; // bit of each visibility 0, 1, 2
const PASSES = {
  has: (bits) => (bits & (OCCLUDED | VISIBLE)) !== 0,
  lacks: (bits) => (bits & (OCCLUDED | VISIBLE)) === 0,
  visible: (bits) => (bits & VISIBLE) !== 0,
  occluded: (bits) => (bits & OCCLUDED) !== 0,
  absent: (bits) => (bits & ABSENT) !== 0,
};

/** Call visit(keypoint, x, y, visibility, item) for every point of an image, also for absent ones. */
function eachPoint(image, visit) {
  for (const item of image.items) {
    categories[item.category].keypoints.forEach((keypoint, place) => {
      const [x, y, visibility] = item.points.slice(3 * place, 3 * place + 3);
      visit(keypoint, x, y, visibility, item);
    });
  }
}

// Per image, the visibilities that occur: of each keypoint, and in the last column of any.
const columns = keypoints.length + 1;
const occurring = new Uint8Array(images.length * columns);
images.forEach((image, row) => {
  image.labelled = 0;
  image.folded = image.name.toLowerCase();
  eachPoint(image, (keypoint, _x, _y, visibility) => {
    const bit = 1 << visibility;
    occurring[row * columns + keypoint] |= bit;
    occurring[(row + 1) * columns - 1] |= bit;
    if (visibility > 0) image.labelled += 1;
  });
});

const collator = new Intl.Collator("en", { numeric: true });
const rankOfName = new Int32Array(images.length);
images
  .map((_, row) => row)
  .sort((a, b) => collator.compare(images[a].name, images[b].name))
  .forEach((row, rank) => (rankOfName[row] = rank));

const SORT_KEYS = {
  file: (row) => row,
  name: (row) => rankOfName[row],
  points: (row) => images[row].labelled,
  findings: (row) => images[row].findings.length,
  error: (row) => images[row].error ?? null,
  missed: (row) => images[row].missed ?? null,
};

function passesFinding(image) {
  if (!state.finding) return true;
  if (state.finding === NONE) return image.findings.length === 0;
  if (state.finding === ANY) return image.findings.length > 0;
  return image.findings.some((finding) => codes[finding.code].code === state.finding);
}

/** Return the positions of the images that pass, in the order asked for. */
function findShown() {
  const text = state.q.trim().toLowerCase();
  const named = state.keypoint ? keypoints.findIndex(({ name }) => name === state.keypoint) : -1;
  const column = named < 0 ? keypoints.length : named;
  const test = PASSES[state.points] ?? (named < 0 ? null : PASSES.has);
  const split = state.split === NONE ? "" : state.split;
  const shown = [];
  images.forEach((image, row) => {
    if (text && !image.folded.includes(text)) return;
    if (test && !test(occurring[row * columns + column])) return;
    if (state.split && image.split !== split) return;
    if (passesFinding(image)) shown.push(row);
  });
  return sorted(shown);
}

function sorted(rows) {
  const key = SORT_KEYS[state.sort] ?? SORT_KEYS.file;
  const sign = state.order === "down" ? -1 : 1;
  const keys = new Map(rows.map((row) => [row, key(row)]));
  return rows.sort((a, b) => {
    const [left, right] = [keys.get(a), keys.get(b)];
    if (left === null || right === null) return (left === null) - (right === null) || a - b; // last
    return sign * (left - right) || a - b;
  });
}
