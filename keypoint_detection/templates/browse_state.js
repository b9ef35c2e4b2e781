// What the page of a data set holds, and its state: what is filtered, how it is sorted, which image is open.

const { keypoints, categories, channels, codes } = content;

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
Object.assign(state, DEFAULTS);

const thumbnail = pictureReader("thumbnails", content.thumbnailsPerBlock, "jpeg");
