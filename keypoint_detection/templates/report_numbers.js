// The headline, the notes, the contract and the settings: words and numbers.

const FIRST_NUMBERS = 12; // the others are folded

/** Return a bar of an interval with a tick at the value; all of it within [low, high]. */
function intervalBar(value, interval, low, high) {
  const svg = document.createElementNS(SVG, "svg");
  const at = (one) => (high > low ? Math.min(Math.max((one - low) / (high - low), 0), 1) * 100 : 50);
  const add = (name, x, width) => {
    const part = document.createElementNS(SVG, "rect");
    const place = Math.min(x, 100 - width);
    for (const [key, one] of Object.entries({ class: name, x: place, width, y: 0, height: 10 })) {
      part.setAttribute(key, one);
    }
    svg.append(part);
  };
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "interval");
  svg.setAttribute("aria-hidden", "true");
  add("track", 0, 100);
  if (interval) add("range", at(interval[0]), Math.max(at(interval[1]) - at(interval[0]), 1));
  if (isNumber(value)) add("tick", Math.max(at(value) - 1, 0), 2);
  return svg;
}

/** Round up to 1, 2 or 5 times a power of ten. */
function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * 0.999999);
}

/** Return the label of a number with its unit, which its name tells. */
const labelled = ({ name, label }) => (name.endsWith("_px") && !label.includes("px") ? `${label} (px)` : label);

const isShare = ({ name, value, interval }) =>
  !/_px$|^missed/.test(name) && [value, ...(interval ?? [])].every((one) => !isNumber(one) || (one >= 0 && one <= 1));

function headlineCard(number) {
  const { value, interval, meaning } = number;
  const isCount = !isShare(number) && [value, ...(interval ?? [])].every((one) => !isNumber(one) || Number.isInteger(one));
  const digits = number.digits ?? (isShare(number) ? 3 : isCount ? 0 : undefined);
  const high = isShare(number) ? 1 : niceCeiling(Math.max(value ?? 0, interval?.[1] ?? 0));
  const card = make("article", { class: "card number", "data-name": number.name });
  card.append(make("h3", { text: labelled(number) }), make("p", { class: "value", text: formatted(value, digits) }));
  card.append(intervalBar(value, interval, 0, high));
  const range = interval ? `${formatted(interval[0], digits)} to ${formatted(interval[1], digits)}` : "no interval";
  const ends = [make("span", { text: "0" }), make("span", { class: "range", text: range })];
  card.append(make("p", { class: "ends" }, ...ends, make("span", { text: String(high) })));
  if (meaning) card.append(make("p", { class: "meaning", text: meaning }));
  return card;
}

function intervalsText({ level, unit, units, resamples, method }) {
  const parts = [`Intervals: ${Number((level * 100).toFixed(2))} %`];
  if (method) parts.push(method);
  if (isNumber(units)) parts.push(plural(units, unit ?? "unit"));
  if (isNumber(resamples)) parts.push(plural(resamples, "resample"));
  return `${parts.join(", ")}.`;
}

function fillFacts(id, rows) {
  byId(`${id}-box`).hidden = !rows?.length;
  for (const [term, text] of rows ?? []) {
    byId(id).append(make("dt", { text: term }), make("dd", { text: text ?? "–" }));
  }
}

function fillNumbers() {
  byId("title").textContent = content.title;
  byId("subtitle").textContent = content.subtitle ?? "";
  const numbers = (content.headline ?? []).map(headlineCard);
  byId("headline").append(...numbers.splice(0, FIRST_NUMBERS));
  byId("more-box").hidden = numbers.length === 0;
  byId("more").append(...numbers);
  byId("intervals").textContent = isNumber(content.intervals?.level) ? intervalsText(content.intervals) : "";
  const notes = content.notes ?? [];
  byId("notes-box").hidden = notes.length === 0;
  byId("notes").append(...notes.map((text) => make("li", { text })));
  fillFacts("contract", content.contract);
  byId("hash").textContent = content.hash ?? "";
  if (content.hash) byId("contract-box").hidden = false;
}

function fillSettings() {
  fillFacts("environment", content.environment);
  byId("config-box").hidden = !content.config;
  byId("config").textContent = content.config ?? "";
  byId("settings").hidden = byId("environment-box").hidden && byId("config-box").hidden;
}
