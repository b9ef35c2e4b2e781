// What every page has: its content, its state in the address, and small helpers.
// The state lives in the address after the #, so that a link shows what its sender sees. A page says in
// DEFAULTS what its state holds, and in LAYERS what can be drawn over an image.

const body = document.body;
const byId = (id) => document.getElementById(id);

function countError() {
  body.dataset.errors = String(Number(body.dataset.errors) + 1);
}
window.addEventListener("error", countError);
window.addEventListener("unhandledrejection", countError);
document.addEventListener("securitypolicyviolation", countError);

const content = JSON.parse(byId("content").textContent);
const { images } = content;
const state = {};

/** Take the state from the address; what it does not name gets its default. */
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(DEFAULTS)) state[name] = given.get(name) ?? DEFAULTS[name];
}

function address() {
  const changed = Object.keys(DEFAULTS).filter((name) => state[name] !== DEFAULTS[name]);
  return "#" + new URLSearchParams(changed.map((name) => [name, state[name]])).toString();
}

let addressTimer = 0;

/** Put the state into the address; browsers limit how often, so changes in quick succession share one. */
function writeAddress() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => setAddress("replaceState"), 200);
}

function setAddress(method) {
  clearTimeout(addressTimer);
  if (location.hash === address() || (address() === "#" && !location.hash)) return;
  try {
    history[method](null, "", address());
  } catch {
    // Some browsers refuse it for a page from the disk: the page works without.
  }
}

const isLayerOn = (name) => state.layers.split(",").includes(name);

/** A page without that layer always shows its pictures. */
const isPictureShown = () => !LAYERS.includes("picture") || isLayerOn("picture");

function toggleLayer(name) {
  state.layers = LAYERS.filter((layer) => isLayerOn(layer) !== (layer === name)).join(",");
}

/** Make an element. Text is set as text, never as HTML: it comes from files. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Return a function from the number of an embedded picture to its address, "" where there is none. */
function pictureReader(name, perBlock, kind) {
  const blocks = [...document.querySelectorAll(`script.${name}`)];
  const decoded = new Map();
  return (number) => {
    const block = Math.floor(number / perBlock);
    if (!decoded.has(block)) decoded.set(block, blocks[block].textContent.split("\n"));
    const line = decoded.get(block)[number % perBlock];
    return line ? `data:image/${kind};base64,${line}` : "";
  };
}

const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
