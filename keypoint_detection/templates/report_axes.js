// What charts are made of: scales, ticks, elements, and colours that can be read in both schemes.

const isDark = window.matchMedia("(prefers-color-scheme: dark)");
const DASHES = ["", "7 3", "2 3", "9 3 2 3"]; // each round of the 7 colours has a dash of its own
const LEAST_CONTRAST = 3;

function luminance(rgb) {
  const [red, green, blue] = rgb.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

const rgbOf = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));

/** Return the colour, moved towards black or white as far as the chart's background asks for. */
function readable(hex) {
  const [paper, towards] = isDark.matches ? [rgbOf("#212429"), 255] : [rgbOf("#ffffff"), 0];
  const colour = rgbOf(hex);
  for (let share = 0; share <= 1; share += 0.05) {
    const mixed = colour.map((part) => Math.round(part + (towards - part) * share));
    if (contrast(mixed, paper) >= LEAST_CONTRAST) return `rgb(${mixed.join(" ")})`;
  }
  return "currentColor";
}

/** Return the colour and the dash of a channel in charts; "all" is in the colour of the text. */
function styleOf(name, place = 0) {
  const channel = positionOfChannel.get(name) ?? place;
  const colour = name === "all" ? null : (channels[channel]?.colour ?? LINE_COLOURS[place % LINE_COLOURS.length]);
  return {
    colour: colour ? readable(colour) : "currentColor",
    dash: name === "all" ? "" : DASHES[Math.floor(channel / 7) % DASHES.length],
    width: name === "all" ? 3 : 1.8,
  };
}

// Of series that are no channels, where the file has no channels to take colours from.
const LINE_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/** Make an element of an SVG. */
function draw(tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

/** Return about `count` round numbers within [low, high]. */
function linearTicks(low, high, count) {
  const step = niceCeiling((0.8 * (high - low)) / count);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-6); tick * step <= high + step * 1e-6; tick += 1) {
    ticks.push(Number((tick * step).toPrecision(12)));
  }
  return ticks;
}

/** Return powers of ten within [low, high], with 2 and 5 times them where they are few. */
function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const parts = decades <= 2.5 ? [1, 2, 5] : [1];
  const stride = Math.ceil(decades / 7);
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    if (power % stride) continue;
    ticks.push(...parts.map((part) => Number((part * 10 ** power).toPrecision(6))));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

/** Return a scale: numbers of [low, high] to places of [from, to], with its ticks. */
function makeScale({ low, high, log }, from, to, count) {
  const turn = log ? Math.log10 : (value) => value;
  const [start, end] = [turn(low), turn(high)];
  const at = (value) => from + ((turn(value) - start) / (end - start || 1)) * (to - from);
  return { at, ticks: log ? logTicks(low, high) : linearTicks(low, high, count) };
}

/** Return the range of numbers, with room around it; on a log axis only of positive numbers. */
function rangeOf(values, log = false) {
  const usable = values.filter((value) => isNumber(value) && (!log || value > 0));
  if (!usable.length) return { low: log ? 0.1 : 0, high: 1, log };
  const low = usable.reduce((least, value) => Math.min(least, value), Infinity);
  const high = usable.reduce((most, value) => Math.max(most, value), -Infinity);
  if (log) return { low: low / 1.15, high: high * 1.15, log };
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  return { low: low >= 0 && low < high / 2 ? 0 : low - room, high: high + room, log };
}

function shortNumber(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(0).replace("e+", "e");
  return size >= 1000 ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
}
