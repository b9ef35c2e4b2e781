// The open image of a data set: its picture, and everything that the files say about it.

const VISIBILITY_WORDS = ["absent", "occluded", "visible"];

function showImage(index) {
  opened = index;
  const image = images[index];
  if (shown.includes(index)) moveCurrent(shown.indexOf(index));
  byId("zoom-title").textContent = image.name.split("/").pop();
  readout.textContent = "";
  showDetails(image);
  loadPicture(index);
  fitView();
}

/** Show the thumbnail at once and the image itself as soon as it is there. */
function loadPicture(index) {
  const image = images[index];
  const source = thumbnail(index);
  picture.style.width = `${image.w}px`;
  picture.style.height = `${image.h}px`;
  if (source) picture.src = source;
  else picture.removeAttribute("src");
  zoom.dataset.picture = source ? "thumbnail" : "none";
  const full = new Image();
  full.onload = () => {
    if (opened !== index) return;
    picture.src = full.src;
    zoom.dataset.picture = "full";
  };
  full.onerror = () => {
    if (opened !== index) return;
    const instead = source ? "the thumbnail stands in" : "there is no thumbnail either";
    byId("notes").append(make("li", { text: `the image itself cannot be shown from here: ${instead}` }));
  };
  full.src = image.src;
}

function showDetails(image) {
  const facts = [`${image.w} × ${image.h} pixels`, `id ${image.id}`, plural(image.items.length, "instance")];
  if (image.split) facts.push(`split ${image.split}`);
  const parts = [make("p", { class: "path", text: image.name }), make("p", { text: facts.join(" · ") })];
  if (image.predictions) parts.push(make("p", { text: errorText(image) }));
  parts.push(make("ul", { id: "notes" }, ...image.notes.map((text) => make("li", { text }))));
  if (image.findings.length) {
    parts.push(make("h3", { text: plural(image.findings.length, "finding") }));
    parts.push(make("ul", { class: "findings" }, ...image.findings.map(findingItem)));
  }
  byId("details").replaceChildren(...parts, ...image.items.map(itemTable));
  byId("details").scrollTop = 0;
}

function errorText(image) {
  const error = typeof image.error === "number" ? `error ${image.error.toFixed(2)} px` : "no error defined";
  return image.missed ? `${error} · ${plural(image.missed, "label")} missed` : error;
}

function findingItem(finding) {
  const code = make("span", { class: `badge ${finding.severity}`, text: codes[finding.code].code });
  const place = [finding.file, finding.annotation && `annotation ${finding.annotation}`].filter(Boolean);
  const message = place.length ? `${finding.message} (${place.join(", ")})` : finding.message;
  return make("li", {}, code, " ", make("span", { text: message }));
}

function itemTable(item) {
  const { name, keypoints: numbers } = categories[item.category];
  const title = `${name} · annotation ${item.id}${item.crowd ? " · crowd" : ""}`;
  const rows = numbers.map((keypoint, place) => {
    const [x, y, visibility] = item.points.slice(3 * place, 3 * place + 3);
    const shape = visibility ? [swatch(keypoint, VISIBILITY_WORDS[visibility])] : [];
    const cells = [VISIBILITY_WORDS[visibility], ...(visibility ? [x, y].map((v) => v.toFixed(1)) : ["", ""])];
    const head = make("th", { scope: "row" }, ...shape, make("span", { text: keypoints[keypoint].name }));
    return make("tr", {}, head, ...cells.map((text) => make("td", { text })));
  });
  const heads = ["keypoint", "label", "x", "y"].map((text) => make("th", { scope: "col", text }));
  const top = make("thead", {}, make("tr", {}, ...heads));
  return make("table", {}, make("caption", { text: title }), top, make("tbody", {}, ...rows));
}

/** Say where the pointer is, and which point is nearest to it. */
function showReadout(event) {
  const { x, y } = placeOf(event);
  let nearest = { distance: 12 / view.scale, text: "" };
  const consider = (text, px, py) => {
    const distance = Math.hypot(px - x, py - y);
    if (distance < nearest.distance) nearest = { distance, text };
  };
  eachPoint(images[opened], (keypoint, px, py, visibility) => {
    if (visibility) consider(` · ${keypoints[keypoint].name}, ${VISIBILITY_WORDS[visibility]}`, px, py);
  });
  for (const [channel, px, py, score] of images[opened].predictions ?? []) {
    if (score < Number(state.score)) continue;
    consider(` · ${channels[channel].name}, predicted with score ${score.toFixed(2)}`, px, py);
  }
  readout.textContent = `x ${x.toFixed(1)}, y ${y.toFixed(1)}${nearest.text}`;
}

function showPictureLayers() {
  picture.style.visibility = isPictureShown() ? "" : "hidden";
}

const focusAfter = (place) => focusTile(place < 0 ? current : place);
