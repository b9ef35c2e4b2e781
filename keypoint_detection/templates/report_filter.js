// Which images pass the filters, and in which order.

const collator = new Intl.Collator("en", { numeric: true });
const rankOfName = new Int32Array(images.length);
images
  .map((_, row) => row)
  .sort((a, b) => collator.compare(images[a].name, images[b].name))
  .forEach((row, rank) => (rankOfName[row] = rank));

const SORT_KEYS = {
  error: (_row, measured) => measured.error,
  worst: (_row, measured) => measured.worst,
  missed: (_row, measured) => measured.missed,
  name: (row) => rankOfName[row],
  file: (row) => row,
};

const chosenChannel = () => (state.channel ? (positionOfChannel.get(state.channel) ?? -1) : -1);

let measured = []; // error, worst and missed of each image: of all points, or of the channel chosen

function passes(image, row, text) {
  if (text && !image.folded.includes(text)) return false;
  if (state.group && (image.group ?? NONE) !== state.group) return false;
  if (state.missed === "yes" && !measured[row].missed) return false;
  if (state.missed === "no" && measured[row].missed) return false;
  return measured[row].labels !== 0; // with a channel chosen, images that have a label of it
}

/** Return the positions of the images that pass, in the order asked for. */
function findShown() {
  const text = state.q.trim().toLowerCase();
  const channel = chosenChannel();
  measured = images.map((image) => measures(image, channel));
  const found = [...images.keys()].filter((row) => passes(images[row], row, text));
  return sorted(found);
}

function sorted(found) {
  const key = SORT_KEYS[state.sort];
  const sign = state.order === "down" ? -1 : 1;
  const keys = new Map(found.map((row) => [row, key(row, measured[row])]));
  return found.sort((a, b) => {
    const [left, right] = [keys.get(a), keys.get(b)];
    if (left === null || right === null) return (left === null) - (right === null) || a - b; // last
    return sign * (left - right) || a - b;
  });
}
