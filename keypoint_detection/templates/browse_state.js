// The content of the page, and its state: what is filtered, how it is sorted, which image is open.
// The state lives in the address after the #, so that a link shows what its sender sees.

const body = document.body;
const byId = (id) => document.getElementById(id);

function countError() {
  body.dataset.errors = String(Number(body.dataset.errors) + 1);
}
window.addEventListener("error", countError);
window.addEventListener("unhandledrejection", countError);
document.addEventListener("securitypolicyviolation", countError);

const content = JSON.parse(byId("content").textContent);
const { images, keypoints, categories, channels, codes } = content;

const LAYERS = ["picture", "points", "skeleton", "names", "boxes", "predictions"];
const NONE = "*none*";
const ANY = "*any*";

const DEFAULTS = {
  q: "",
  keypoint: "",
  points: "",
  split: "",
  finding: "",
  sort: "file",
  order: "up",
  score: "0.1",
  layers: "picture,points,skeleton,names,predictions",
  open: "",
};
const state = { ...DEFAULTS };

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

const blocks = [...document.querySelectorAll("script.thumbnails")];
const decoded = new Map();
const perBlock = content.thumbnailsPerBlock;

/** Return the address of a thumbnail, or "" where there is none. */
function thumbnail(index) {
  const block = Math.floor(index / perBlock);
  if (!decoded.has(block)) decoded.set(block, blocks[block].textContent.split("\n"));
  const jpeg = decoded.get(block)[index % perBlock];
  return jpeg ? "data:image/jpeg;base64," + jpeg : "";
}

const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
