// The list of points beside the open image: where labels and predictions are, and how far apart.

const MOST_EXTRA = 50;

function showDetails(image) {
  const facts = [`${image.w} × ${image.h} pixels`, `id ${image.id}`];
  if (image.group !== null && image.group !== undefined) facts.push(`group ${image.group}`);
  const summary = [isNumber(image.error) ? `mean error ${px(image.error)}` : "no error defined"];
  if (isNumber(image.worst)) summary.push(`worst ${px(image.worst)}`);
  if (image.missed) summary.push(`${plural(image.missed, "label")} missed`);
  const parts = [make("p", { class: "path", text: image.name }), make("p", { text: facts.join(" · ") })];
  parts.push(make("p", { text: summary.join(" · ") }));
  if (!Number.isInteger(image.picture)) parts.push(make("p", { text: "This file holds no picture of it." }));
  parts.push(...labelTable(image), ...extraTable(image));
  const keys = "Keys: ← → other images, + − 0 zoom, 1 to 7 layers, Esc back.";
  byId("details").replaceChildren(...parts, make("p", { class: "soft", text: keys }));
  byId("details").scrollTop = 0;
}

function tableOf(title, heads, lines) {
  const top = make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col", text }))));
  return make("table", {}, make("caption", { text: title }), top, make("tbody", {}, ...lines));
}

function pointButton(channel, kind, x, y) {
  const button = make("button", { type: "button", class: "plain", title: "show it large" });
  button.append(swatch(channel, kind), make("span", { text: nameOf(channel) }));
  button.addEventListener("click", () => centreOn(x, y));
  return make("th", { scope: "row" }, button);
}

const scoreCell = (point) => formatted(point[PREDICTION_SCORE], 2) + (isOccluded(point) ? ", occluded" : "");

/** The labels, those that were missed first, then by their error. */
function labelTable(image) {
  const places = [...image.labels.keys()].filter((place) => isVisibleLabel(image.labels[place]));
  if (!places.length) return [];
  const errors = new Map(places.map((place) => [place, errorOf(image, place) ?? Infinity]));
  places.sort((a, b) => errors.get(b) - errors.get(a) || a - b);
  const lines = places.map((place) => {
    const [channel, x, y, visibility] = image.labels[place];
    const found = image.predictions[image.found.get(place)];
    const error = make("td", found ? { text: px(errors.get(place)) } : { class: "is-missed", text: "missed" });
    const cells = [`${x.toFixed(1)}, ${y.toFixed(1)}`, found ? scoreCell(found) : "–"];
    const head = pointButton(channel, visibility === 2 ? "visible" : "occluded", x, y);
    return make("tr", {}, head, ...cells.map((text) => make("td", { text })), error);
  });
  return [tableOf(plural(places.length, "label"), ["keypoint", "x, y", "score", "error"], lines)];
}

/** The predictions that belong to no label, as far as the score lets them be seen. */
function extraTable(image) {
  const extra = image.predictions.filter((point, place) => !image.matched.has(place) && isShown(point));
  if (!extra.length) return [];
  extra.sort((a, b) => (b[PREDICTION_SCORE] ?? 0) - (a[PREDICTION_SCORE] ?? 0));
  const lines = extra.slice(0, MOST_EXTRA).map((point) => {
    const [channel, x, y] = point;
    const cells = [`${x.toFixed(1)}, ${y.toFixed(1)}`, scoreCell(point)];
    return make("tr", {}, pointButton(channel, "cross", x, y), ...cells.map((text) => make("td", { text })));
  });
  const title = `${plural(extra.length, "prediction")} without a label`;
  return [tableOf(title, ["keypoint", "x, y", "score"], lines)];
}
