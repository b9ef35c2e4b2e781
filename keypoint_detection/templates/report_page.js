// The page as a whole: its parts, keys, and what happens when the state changes.

function showSection(id) {
  const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId(id).scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "start" });
}

function fillNavigation() {
  for (const section of document.querySelectorAll("main > section:not([hidden])")) {
    const text = section.querySelector("h2").firstChild.textContent.trim();
    const button = make("button", { type: "button", text });
    button.addEventListener("click", () => showSection(section.id));
    byId("nav").append(button);
  }
}

/** Filter, sort and show. */
function applyState() {
  const start = performance.now();
  showState();
  sortTable();
  const found = findShown();
  grid.scrollTop = 0;
  showGrid(found);
  const all = plural(images.length, "image");
  byId("counter").textContent = found.length === images.length ? all : `${found.length.toLocaleString("en")} / ${all}`;
  byId("nothing").hidden = found.length > 0;
  byId("nothing").textContent = "No image passes these filters.";
  grid.classList.toggle("empty", found.length === 0);
  showOpened();
  writeAddress();
  body.dataset.shown = String(found.length);
  body.dataset.applyMs = (performance.now() - start).toFixed(1);
}

function controlChanged(event) {
  state[event.target.id] = event.target.value;
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
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (zoom.open) zoomKeyPressed(event);
  else if (event.key === "/" && images.length) {
    event.preventDefault();
    byId("q").focus();
  } else if (grid.contains(event.target)) moveFocus(event);
}

function zoomKeyPressed(event) {
  const layer = LAYERS[Number(event.key) - 1];
  if (layer) {
    toggleLayer(layer);
    layersChanged();
  }
  const isScrolling = event.target.id === "details" && event.key.startsWith("Arrow");
  const action = isScrolling ? undefined : ZOOM_KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function listenToResizing() {
  let width = byId("picks").clientWidth;
  const resized = () => requestAnimationFrame(() => { // never while the browser tells sizes
    gridResized();
    if (byId("picks").clientWidth === width) return;
    width = byId("picks").clientWidth;
    showPicks();
  });
  const observer = new ResizeObserver(resized);
  observer.observe(grid);
  observer.observe(byId("picks"));
}

function listen() {
  for (const id of CONTROLS) byId(id).addEventListener("input", controlChanged);
  for (const id of ["score", "opacity"]) byId(id).addEventListener("input", sliderMoved);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", clearFilters);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("smaller").addEventListener("click", () => zoomBy(0.8));
  byId("larger").addEventListener("click", () => zoomBy(1.25));
  byId("fit").addEventListener("click", fitView);
  byId("close").addEventListener("click", () => zoom.close());
  document.addEventListener("keydown", keyPressed);
  listenOnStage();
  listenToResizing();
  listenToCharts();
  window.addEventListener("popstate", () => {
    readAddress();
    applyState();
  });
}

readAddress();
fillNumbers();
fillTable();
byId("images").hidden = images.length === 0;
byId("charts").hidden = false; // a chart is drawn as wide as its place
fillCharts();
byId("charts").hidden = cards.length === 0;
fillControls();
fillLayers();
fillMarks();
byId("examples").hidden = false;
showPicks();
fillSettings();
fillNavigation();
applyState();
listen();
body.dataset.loadMs = performance.now().toFixed(0);
