// The page as a whole: controls, keys, and what happens when the state changes.

const help = byId("help");
const CONTROLS = ["q", "keypoint", "points", "split", "finding", "sort", "order", "score"];

function fillSelect(id, options) {
  byId(id).append(...options.map(([value, text]) => make("option", { value, text })));
  byId(id).parentElement.hidden = options.length < 2;
}

function fillControls() {
  fillSelect("keypoint", [["", "any"], ...keypoints.map(({ name }) => [name, name])]);
  fillSelect("points", [
    ["", "any"], ["has", "labelled"], ["lacks", "not labelled"], ["visible", "visible"],
    ["occluded", "occluded"], ["absent", "absent"],
  ]);
  const splits = countBy(images.map((image) => image.split));
  const named = [...splits.keys()].filter(Boolean).sort();
  const splitOptions = named.map((name) => [name, `${name} (${splits.get(name)})`]);
  if (named.length && splits.has("")) splitOptions.push([NONE, `none (${splits.get("")})`]);
  fillSelect("split", [["", "any"], ...splitOptions]);
  const found = codes.filter(({ images: count }) => count);
  const marked = images.filter((image) => image.findings.length).length;
  const codeOptions = found.map(({ code, images: count }) => [code, `${code} (${count})`]);
  const general = [[ANY, `with findings (${marked})`], [NONE, `without (${images.length - marked})`]];
  fillSelect("finding", [["", "any"], ...(marked ? [...general, ...codeOptions] : [])]);
  const predicted = content.predicted ? [["error", "error"], ["missed", "missed labels"]] : [];
  const sorts = [["file", "order of the file"], ["name", "name"], ["points", "points"], ["findings", "findings"]];
  fillSelect("sort", [...sorts, ...predicted]);
  fillSelect("order", [["up", "rising"], ["down", "falling"]]);
  byId("score-label").hidden = !content.predicted;
  const scores = images.flatMap((image) => (image.predictions ?? []).map((point) => point[3]));
  byId("score").max = String(scores.reduce((most, score) => Math.max(most, score), 1));
}

function countBy(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

function fillLegend() {
  const items = keypoints.map(({ name, counts: [absent, occluded, visible] }, keypoint) => {
    const label = `${name}: ${visible} visible, ${occluded} occluded, ${absent} absent`;
    const button = make("button", { type: "button", "aria-label": label, title: label, "aria-pressed": "false" });
    const numbers = `${visible.toLocaleString("en")} · ${occluded.toLocaleString("en")} · ${absent.toLocaleString("en")}`;
    button.append(swatch(keypoint), make("span", { text: name }), make("span", { class: "count", text: numbers }));
    button.addEventListener("click", () => {
      state.keypoint = state.keypoint === name ? "" : name;
      applyState();
    });
    return make("li", {}, button);
  });
  byId("legend").append(...items);
  for (const kind of ["visible", "occluded", "predicted"]) {
    byId(`key-${kind}`).append(swatch(0, kind === "predicted" ? "cross" : kind));
  }
}

function fillSetFindings() {
  byId("set-findings-box").hidden = content.findings.length === 0;
  byId("set-findings").append(...content.findings.map(findingItem));
}

function fillLayers() {
  LAYERS.forEach((name, place) => {
    if (name === "predictions" && !content.predicted) return;
    const box = make("input", { type: "checkbox", value: name });
    box.addEventListener("change", () => {
      toggleLayer(name);
      layersChanged();
    });
    byId("layers").append(make("label", { title: `key ${place + 1}` }, box, name));
  });
}

function layersChanged() {
  for (const box of byId("layers").querySelectorAll("input")) box.checked = isLayerOn(box.value);
  redrawGrid();
  if (opened >= 0) drawView();
  writeAddress();
}

/** Let the controls show the state; a value that they do not know becomes the default. */
function showState() {
  for (const id of CONTROLS) {
    if (byId(id).value !== state[id]) byId(id).value = state[id];
    if (byId(id).tagName === "SELECT" && byId(id).selectedIndex < 0) {
      byId(id).value = state[id] = DEFAULTS[id];
    }
  }
  state.score = byId("score").value; // a slider keeps it in range
  byId("score-value").textContent = Number(state.score).toFixed(2);
  for (const [place, { name }] of keypoints.entries()) {
    byId("legend").children[place].firstChild.setAttribute("aria-pressed", String(state.keypoint === name));
  }
  for (const box of byId("layers").querySelectorAll("input")) box.checked = isLayerOn(box.value);
}

/** Filter, sort and show. */
function applyState() {
  const start = performance.now();
  showState();
  const rows = findShown();
  showGrid(rows);
  const all = plural(images.length, "image");
  byId("counter").textContent = rows.length === images.length ? all : `${rows.length.toLocaleString("en")} / ${all}`;
  byId("nothing").hidden = rows.length > 0;
  byId("nothing").textContent = images.length ? "No image passes these filters." : "The file has no images.";
  showOpened();
  if (opened >= 0) drawView();
  writeAddress();
  body.dataset.shown = String(rows.length);
  body.dataset.applyMs = (performance.now() - start).toFixed(1);
}

function controlChanged(event) {
  state[event.target.id] = event.target.value;
  if (event.target.id !== "score") grid.scrollTop = 0;
  applyState();
}

function clearFilters() {
  for (const id of CONTROLS) state[id] = DEFAULTS[id];
  applyState();
}

const ZOOM_KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  0: () => fitView(),
};

function keyPressed(event) {
  const isTyping = event.target.matches("input:not([type=checkbox]), select");
  if (help.open || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") help.showModal();
  else if (zoom.open) zoomKeyPressed(event);
  else if (event.key === "/") {
    event.preventDefault();
    byId("filters-box").open = true;
    byId("q").focus();
  } else if (!event.target.closest("header")) moveFocus(event);
}

function zoomKeyPressed(event) {
  const layer = LAYERS[Number(event.key) - 1];
  if (layer) {
    toggleLayer(layer);
    layersChanged();
  }
  const isScrolling = event.target.closest("#details") && event.key.startsWith("Arrow");
  const action = isScrolling ? undefined : ZOOM_KEYS[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
}

function listen() {
  for (const id of CONTROLS) byId(id).addEventListener("input", controlChanged);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", clearFilters);
  byId("help-button").addEventListener("click", () => help.showModal());
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("smaller").addEventListener("click", () => zoomBy(0.8));
  byId("larger").addEventListener("click", () => zoomBy(1.25));
  byId("fit").addEventListener("click", fitView);
  byId("close").addEventListener("click", () => zoom.close());
  document.addEventListener("keydown", keyPressed);
  listenOnStage();
  window.addEventListener("popstate", () => {
    readAddress();
    applyState();
  });
  new ResizeObserver(gridResized).observe(grid);
}

fillControls();
fillLegend();
fillSetFindings();
fillLayers();
byId("filters-box").open = byId("legend-box").open = window.innerWidth >= 700;
readAddress();
applyState();
listen();
body.dataset.loadMs = performance.now().toFixed(0);
