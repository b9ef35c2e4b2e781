// The charts of the report: what each shows.

const cards = []; // [chart, function that returns what it shows now]

function addChart(chart, specify) {
  cards.push([chart, specify]);
  byId("chart-cards").append(chart.element);
  chart.show(specify());
}

function chooser(label, options, name) {
  const select = make("select", { "aria-label": label });
  select.append(...options.map(([value, text]) => make("option", { value, text })));
  DEFAULTS[name] = options[0][0];
  if (!options.some(([value]) => value === state[name])) state[name] = DEFAULTS[name];
  select.value = state[name];
  select.addEventListener("input", () => {
    state[name] = select.value;
    writeAddress();
    redrawCharts();
  });
  return make("label", { class: "chooser" }, make("span", { text: label }), select);
}

function redrawCharts() {
  for (const [chart, specify] of cards) chart.show(specify());
}

const hasNumbers = (list) => Array.isArray(list) && list.length > 0;
const sum = (numbers) => numbers.reduce((total, number) => total + (number ?? 0), 0);

function errorWords(total) {
  const { edges, beyond, missed } = charts.errors;
  const parts = [`${plural(total, "point")} drawn.`];
  if (beyond) parts.push(`${plural(beyond, "point")} further off than ${shortNumber(edges.at(-1))} px.`);
  if (isNumber(missed)) parts.push(missed ? `${plural(missed, "label")} missed.` : "No label missed.");
  if (state.errors !== "all" && (beyond || missed)) parts.push("(Far off and missed: of all keypoints.)");
  return parts.join(" ");
}

function errorSpec() {
  const { edges, channels: counted } = charts.errors;
  const lists = state.errors === "all" ? Object.values(counted) : [counted[state.errors] ?? []];
  const counts = edges.slice(1).map((_, bin) => sum(lists.map((list) => list[bin])));
  const total = sum(counts);
  const style = state.errors === "all" ? { colour: "var(--accent)" } : styleOf(state.errors);
  return {
    bars: true,
    x: { title: "distance to the label (px)", low: edges[0], high: edges.at(-1) },
    y: { title: "points", low: 0, high: Math.max(...counts, 1) * 1.05 },
    series: [{ name: state.errors, ...style, from: edges, to: edges.slice(1), y: counts }],
    words: errorWords(total),
    read: (_, bin) => {
      const share = (100 * sum(counts.slice(0, bin + 1))) / (total || 1);
      const span = `${shortNumber(edges[bin])} to ${shortNumber(edges[bin + 1])} px`;
      return `${span}: ${plural(counts[bin], "point")}; ${share.toFixed(1)} % of those drawn are this near or nearer`;
    },
  };
}

function addErrors() {
  const { edges, channels: counted } = charts.errors ?? {};
  if (!hasNumbers(edges) || !counted) return;
  const names = Object.keys(counted).map((name) => [name, name]);
  const select = chooser("keypoint", [["all", "all"], ...names], "errors");
  addChart(new Chart("Distance of predictions to labels", [select]), errorSpec);
}

const readLine = (xName, yName) => (series, point) =>
  `${series.name}: ${xName} ${shortNumber(series.x[point])}, ${yName} ${formatted(series.y[point], 3)}`;

function pckSpec() {
  const { unit, alphas, curves } = charts.pck;
  const series = curves.map(({ channel, values }, place) => ({
    name: channel, ...styleOf(channel, place), x: alphas, y: values,
  }));
  series.sort((a, b) => (b.name === "all") - (a.name === "all"));
  return {
    x: { title: `allowed distance, as a share of the ${(unit || "reference length").replaceAll("_", " ")}`, ...rangeOf(alphas), high: Math.max(...alphas) },
    y: { title: "share of correct keypoints", low: 0, high: 1 },
    series,
    read: readLine("within", "correct"),
  };
}

function recallSpec() {
  const curves = charts.precisionRecall.filter(({ threshold }) => String(threshold) === state.threshold);
  return {
    x: { title: "recall", low: 0, high: 1 },
    y: { title: "precision", low: 0, high: 1.02 },
    series: curves.map(({ channel, ap, recall, precision }, place) => ({
      name: channel, label: isNumber(ap) ? `${channel} ${ap.toFixed(3)}` : `${channel} –`,
      ...styleOf(channel, place), x: recall, y: precision,
    })),
    words: "The number beside a name is its average precision.",
    read: readLine("recall", "precision"),
  };
}

function addRecall() {
  if (!hasNumbers(charts.precisionRecall)) return;
  const thresholds = [...new Set(charts.precisionRecall.map(({ threshold }) => String(threshold)))];
  const select = chooser("threshold", thresholds.map((one) => [one, one]), "threshold");
  addChart(new Chart("Precision and recall", [select]), recallSpec);
}

/** The x of every series is the same kind of number; the file may name it. */
function trainingSpec({ title, log, series, xTitle = "epoch", yTitle = title }) {
  const lines = series.map((one, place) => ({
    ...one, colour: readable(LINE_COLOURS[place % LINE_COLOURS.length]),
    dash: DASHES[Math.floor(place / LINE_COLOURS.length) % DASHES.length], width: 2,
  }));
  const range = rangeOf(series.flatMap(({ x }) => x));
  return {
    x: { title: xTitle, ...range },
    y: { title: yTitle, ...rangeOf(series.flatMap(({ y }) => y), Boolean(log)) },
    series: lines,
    read: (one, point) => `${one.name}: ${xTitle} ${shortNumber(one.x[point])}, ${Number(one.y[point]?.toPrecision(4))}`,
  };
}

function fillCharts() {
  addErrors();
  if (hasNumbers(charts.pck?.alphas) && hasNumbers(charts.pck.curves)) {
    addChart(new Chart("Correct keypoints (PCK)"), pckSpec);
  }
  addRecall();
  for (const one of charts.training ?? []) {
    if (hasNumbers(one.series)) addChart(new Chart(`Training: ${one.title}`), () => trainingSpec(one));
  }
}

/** Draw every chart anew when its width or the colours have changed. */
function listenToCharts() {
  isDark.addEventListener("change", redrawCharts);
  let width = byId("chart-cards").clientWidth;
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (byId("chart-cards").clientWidth === width) return;
    width = byId("chart-cards").clientWidth;
    for (const [chart] of cards) chart.draw();
  })).observe(byId("chart-cards"));
}
