// The controls of the gallery and of the viewer.

const CONTROLS = ["q", "channel", "group", "missed", "sort", "order"];

function fillSelect(id, options) {
  byId(id).append(...options.map(([value, text]) => make("option", { value, text })));
  byId(id).parentElement.hidden = options.length < 2;
}

function fillControls() {
  fillSelect("channel", [["", "all"], ...channels.map(({ name }) => [name, name])]);
  const counts = new Map();
  for (const { group } of images) counts.set(group ?? NONE, (counts.get(group ?? NONE) ?? 0) + 1);
  const names = [...counts.keys()].sort((a, b) => (a === NONE) - (b === NONE) || collator.compare(a, b));
  const groups = names.map((name) => [name, `${name === NONE ? "none" : name} (${counts.get(name)})`]);
  fillSelect("group", [["", "all"], ...(names.some((name) => name !== NONE) ? groups : [])]);
  fillSelect("missed", [["", "any"], ["yes", "has missed"], ["no", "none missed"]]);
  fillSelect("sort", [
    ["error", "mean error"], ["worst", "worst error"], ["missed", "missed"], ["name", "name"], ["file", "order of the set"],
  ]);
  fillSelect("order", [["down", "falling"], ["up", "rising"]]);
  const scores = images.flatMap(({ predictions }) => predictions.map((point) => point[PREDICTION_SCORE] ?? 0));
  byId("score").max = String(scores.reduce((most, score) => Math.max(most, score), 1));
}

function fillLayers() {
  for (const fieldset of document.querySelectorAll(".layers")) {
    LAYERS.forEach((name, place) => {
      const isInViewerOnly = ["names", "boxes", "heatmap"].includes(name);
      if (isInViewerOnly && !zoom.contains(fieldset)) return;
      const box = make("input", { type: "checkbox", value: name });
      box.addEventListener("change", () => {
        toggleLayer(name);
        layersChanged();
      });
      fieldset.append(make("label", { title: `key ${place + 1}` }, box, LAYER_NAMES[place]));
    });
  }
}

function showLayers() {
  for (const box of document.querySelectorAll(".layers input")) box.checked = isLayerOn(box.value);
}

/** Draw everything that lies over an image anew. */
function redrawMarks() {
  redrawGrid();
  redrawPicks();
  if (opened >= 0) drawView();
  writeAddress();
}

function layersChanged() {
  showLayers();
  redrawMarks();
}

let scoreFrame = 0;

function sliderMoved(event) {
  state[event.target.id] = event.target.value;
  showSliders();
  scoreFrame ||= requestAnimationFrame(() => {
    scoreFrame = 0;
    redrawMarks();
    if (opened >= 0 && event.target.id === "score") showDetails(images[opened]);
  });
}

function showSliders() {
  for (const id of ["score", "opacity"]) {
    byId(id).value = state[id];
    state[id] = byId(id).value; // a slider keeps it in range
  }
  byId("score-value").textContent = Number(state.score).toFixed(2);
  byId("opacity-value").textContent = `${Math.round(100 * Number(state.opacity))} %`;
}

/** Let the controls show the state; a value that they do not know becomes the default. */
function showState() {
  for (const id of CONTROLS) {
    if (byId(id).value !== state[id]) byId(id).value = state[id];
    if (byId(id).tagName === "SELECT" && byId(id).selectedIndex < 0) byId(id).value = state[id] = DEFAULTS[id];
  }
  showSliders();
  showLayers();
}
