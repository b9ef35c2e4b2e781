// What the grid says about an image of a data set.

function describe(image) {
  const parts = [image.name, plural(image.labelled, "point")];
  if (image.findings.length) parts.push(plural(image.findings.length, "finding"));
  return parts.join(", ");
}

function makeCaption(image) {
  const name = make("span", { class: "name", text: image.name.split("/").pop(), title: image.name });
  const facts = [plural(image.labelled, "point")];
  if (image.split) facts.push(image.split);
  if (typeof image.error === "number") facts.push(`${image.error.toFixed(1)} px`);
  const line = make("span", { class: "facts" }, make("span", { text: facts.join(" · ") }));
  if (image.findings.length) {
    const severe = image.findings.some((finding) => finding.severity === "error");
    const text = String(image.findings.length);
    line.append(make("span", { class: `badge ${severe ? "error" : "warning"}`, text }));
  }
  return make("span", { class: "caption" }, name, line);
}
