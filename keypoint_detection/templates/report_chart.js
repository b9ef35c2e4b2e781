// One chart: axes with titles and ticks, lines or bars, a legend that switches series, and a read-out.

const CHART_HEIGHT_PX = 270;
const MARGIN = { left: 64, right: 14, top: 10, bottom: 46 };
const REACH_PX = 60; // how far the pointer may be from the point that is read out

/** Return how far a place is from the line between two others; of an undefined end, not at all near. */
function toSegment([x, y], from, to) {
  if (!to) return Infinity;
  const [width, height] = [to[0] - from[0], to[1] - from[1]];
  const along = ((x - from[0]) * width + (y - from[1]) * height) / (width ** 2 + height ** 2 || 1);
  const share = Math.min(Math.max(along, 0), 1);
  return Math.hypot(from[0] + share * width - x, from[1] + share * height - y);
}

/**
 * A chart card. What it shows is set with show(): `x` and `y` are { title, low, high, log }, `series` a list of
 * { name, label, colour, dash, width, x, y } or, with `bars`, { from, to, y }; `words` says what is not drawn.
 */
class Chart {
  constructor(title, options = []) {
    this.hidden = new Set();
    this.at = null; // [series, point] that is read out
    this.svg = draw("svg", { class: "plot", role: "img", tabindex: 0, height: CHART_HEIGHT_PX });
    this.readout = make("p", { class: "chart-readout", role: "status" });
    this.legend = make("ul", { class: "legend" });
    this.words = make("p", { class: "words" });
    const head = make("div", { class: "chart-head" }, make("h3", { text: title }), ...options);
    this.element = make("article", { class: "card chart" }, head, this.readout, this.svg, this.legend, this.words);
    this.title = title;
    this.listen();
  }

  show(spec) {
    this.spec = spec;
    this.at = null;
    this.words.textContent = spec.words ?? "";
    this.words.hidden = !spec.words;
    this.svg.setAttribute("aria-label", `${this.title}: ${spec.y.title} over ${spec.x.title}. Arrow keys read it out.`);
    this.fillLegend();
    this.draw();
  }

  get shown() {
    return this.spec.series.filter(({ name }) => !this.hidden.has(name));
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${CHART_HEIGHT_PX}`);
    const right = width - MARGIN.right;
    const bottom = CHART_HEIGHT_PX - MARGIN.bottom;
    const { x, y } = this.spec;
    this.xScale = makeScale(x, MARGIN.left, right, Math.max(width / 90, 3));
    this.yScale = makeScale(y, bottom, MARGIN.top, 5);
    this.marks = draw("g", { class: "marks" });
    this.cursor = draw("g", { class: "cursor" });
    this.svg.replaceChildren(...this.axes(right, bottom), this.marks, this.cursor);
    for (const series of this.shown) this.marks.append(this.spec.bars ? this.bars(series, bottom) : this.curve(series));
    this.showPoint();
  }

  axes(right, bottom) {
    const parts = [];
    for (const tick of this.yScale.ticks) {
      const place = this.yScale.at(tick);
      parts.push(draw("path", { class: "rule", d: `M${MARGIN.left} ${place}H${right}` }));
      parts.push(draw("text", { x: MARGIN.left - 7, y: place + 4, "text-anchor": "end" }, shortNumber(tick)));
    }
    for (const tick of this.xScale.ticks) {
      const place = this.xScale.at(tick);
      parts.push(draw("path", { class: "axis", d: `M${place} ${bottom}v5` }));
      parts.push(draw("text", { x: place, y: bottom + 18, "text-anchor": "middle" }, shortNumber(tick)));
    }
    const middle = (MARGIN.top + bottom) / 2;
    const turned = { x: 0, y: 0, "text-anchor": "middle", transform: `translate(13 ${middle}) rotate(-90)` };
    const under = { x: (MARGIN.left + right) / 2, y: CHART_HEIGHT_PX - 7, "text-anchor": "middle" };
    parts.push(draw("path", { class: "axis", d: `M${MARGIN.left} ${bottom}H${right}` }));
    parts.push(draw("text", { class: "axis-title", ...under }, this.spec.x.title));
    parts.push(draw("text", { class: "axis-title", ...turned }, this.spec.y.title + (this.spec.y.log ? " (log)" : "")));
    return parts;
  }

  /** Return the place of a point in the SVG; null where it is undefined, or not above 0 on a log axis. */
  placeOf(series, point) {
    const x = this.spec.bars ? (series.from[point] + series.to[point]) / 2 : series.x[point];
    const y = series.y[point];
    if (!isNumber(x) || !isNumber(y) || (this.spec.y.log && y <= 0)) return null;
    return [this.xScale.at(x), this.yScale.at(y)];
  }

  curve(series) {
    const parts = [];
    let pen = "M";
    series.y.forEach((_, point) => {
      const place = this.placeOf(series, point);
      if (place) parts.push(`${pen}${place[0].toFixed(2)} ${place[1].toFixed(2)}`);
      pen = place ? "L" : "M";
    });
    const single = series.y.length === 1 ? "h0.01" : "";
    return draw("path", {
      class: "series", "data-series": series.name, d: parts.join("") + single, stroke: series.colour,
      "stroke-width": single ? 6 : series.width, "stroke-dasharray": series.dash,
    });
  }

  bars(series, bottom) {
    const group = draw("g", { class: "bars", "data-series": series.name, fill: series.colour });
    series.y.forEach((count, point) => {
      if (!count) return;
      const [left, right] = [series.from[point], series.to[point]].map((edge) => this.xScale.at(edge));
      const top = this.yScale.at(count);
      const width = Math.max(right - left - 1, 0.5);
      group.append(draw("rect", { x: left + 0.5, y: top, width, height: bottom - top }));
    });
    return group;
  }

  fillLegend() {
    const { series, bars } = this.spec;
    this.legend.hidden = Boolean(bars) || series.length < 2;
    if (this.legend.hidden) return this.legend.replaceChildren();
    const items = series.map((one) => make("li", {}, this.legendButton(one)));
    if (series.length > 3) items.push(this.setAll("all", () => []), this.setAll("none", () => series));
    return this.legend.replaceChildren(...items);
  }

  legendButton(one) {
    const isShown = !this.hidden.has(one.name);
    const button = make("button", { type: "button", "aria-pressed": String(isShown), "data-series": one.name });
    const mark = draw("svg", { class: "dash", viewBox: "0 0 26 10", "aria-hidden": "true" });
    mark.append(draw("path", {
      d: "M1 5H25", stroke: one.colour, "stroke-width": one.width + 0.7, "stroke-dasharray": one.dash,
    }));
    button.append(mark, make("span", { text: one.label ?? one.name }));
    button.addEventListener("click", () => {
      if (!this.hidden.delete(one.name)) this.hidden.add(one.name);
      button.setAttribute("aria-pressed", String(!this.hidden.has(one.name)));
      this.redraw();
    });
    button.addEventListener("pointerenter", () => this.fade(one.name));
    button.addEventListener("pointerleave", () => this.fade(null));
    return button;
  }

  setAll(word, hiddenSeries) {
    const button = make("button", { type: "button", class: "set-all", text: word });
    button.addEventListener("click", () => {
      this.hidden = new Set(hiddenSeries().map(({ name }) => name));
      for (const one of this.legend.querySelectorAll("[data-series]")) {
        one.setAttribute("aria-pressed", String(!this.hidden.has(one.dataset.series)));
      }
      this.redraw();
    });
    return make("li", {}, button);
  }

  redraw() {
    this.at = null;
    this.draw();
  }

  fade(name) {
    for (const one of this.marks.children) {
      one.classList.toggle("faded", !this.spec.bars && name !== null && one.dataset.series !== name);
    }
  }

  listen() {
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.readAt(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  point(event) {
    const frame = this.svg.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    let [nearest, least] = [null, this.spec.bars ? Infinity : REACH_PX];
    for (const series of this.shown) {
      let before = null;
      for (let point = 0; point < series.y.length; point += 1) {
        const place = this.placeOf(series, point);
        const isNearer = place && before && Math.abs(before[0] - x) < Math.abs(place[0] - x);
        const distance = this.spec.bars ? Math.abs(place[0] - x) : toSegment([x, y], before ?? place, place);
        if (distance < least) [nearest, least] = [[series, isNearer && !this.spec.bars ? point - 1 : point], distance];
        before = place;
      }
    }
    this.readAt(nearest);
  }

  /** Left and right walk along a series, up and down from series to series. */
  key(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const move = steps[event.key];
    const { shown: all } = this;
    if (!move || !all.length) return;
    event.preventDefault();
    event.stopPropagation();
    const before = this.at ? all.indexOf(this.at[0]) : 0;
    const series = all[Math.min(Math.max(before + (this.at ? move[0] : 0), 0), all.length - 1)];
    const point = this.at ? this.at[1] + move[1] : 0;
    this.readAt([series, Math.min(Math.max(point, 0), series.y.length - 1)]);
  }

  readAt(at) {
    this.at = at;
    this.showPoint();
  }

  showPoint() {
    this.cursor.replaceChildren();
    this.fade(this.at ? this.at[0].name : null);
    const place = this.at && this.placeOf(...this.at);
    this.readout.textContent = this.at ? this.spec.read(...this.at) : "";
    if (!place) return;
    const [x, y] = place;
    const bottom = CHART_HEIGHT_PX - MARGIN.bottom;
    this.cursor.append(draw("path", { d: `M${x} ${MARGIN.top}V${bottom}` }), draw("circle", { cx: x, cy: y, r: 4.5 }));
  }
}
