// The page of the errors. An error is an image and a model that gets it wrong.
"use strict";

const EACH = 120; // tiles that are shown at once
const START = {
  model: "both", truth: "", predicted: "", least: "0", most: "100", evidence: "", order: "surest",
};
const FAULTY = { both: [0, 1], 0: [0], 1: [1], corrected: [0], lost: [1] }; // models whose errors count

let data, images, errors, sheet; // sheet: the sprite, all images in one
let state = { ...START }, shown = EACH;

async function start() {
  data = await readData();
  if (data.absent) return;
  sheet = new Image();
  sheet.src = `data:image/png;base64,${data.sprite}`;
  await sheet.decode();
  images = readImages();
  errors = images.flatMap(image => [{ image, model: 0 }, { image, model: 1 }])
    .filter(({ image, model }) => !image.right[model]);
  byId("tools").hidden = false;
  for (const [k, name] of data.classes.entries()) {
    for (const field of ["truth", "predicted"]) byId(field).append(new Option(name, k));
  }
  const known = "copies" in data;
  byId("evidence").disabled = !known;
  byId("unknown").hidden = known;
  const [frozen, tuned] = [0, 1].map(model => errors.filter(error => error.model === model).length);
  byId("summary").textContent = `Of ${count(data.tested, "test image")} the frozen features get `
    + `${frozen.toLocaleString("en")} wrong, the finetuned network ${tuned.toLocaleString("en")}. `
    + "Here is each of these errors. The confidence is the probability that the model gives to the "
    + "class it names.";
  byId("filter").oninput = () => show(readForm());
  byId("filter").onsubmit = event => event.preventDefault();
  byId("filter").onreset = event => { event.preventDefault(); show(START); };
  byId("more").onclick = showMore;
  byId("close").onclick = () => byId("detail").close();
  byId("detail").onclick = event => event.target === byId("detail") && byId("detail").close();
  onSchemeChange(showConfusion);
  window.onhashchange = openAddress;
  openAddress();
}

function readImages() {
  const numbers = unpack(data.images, Uint16Array), truth = unpack(data.labels, Uint8Array);
  const logits = data.logits.map(text => unpack(text, Float32Array)), classes = data.classes.length;
  const copies = "copies" in data ? unpack(data.copies, Uint8Array) : [];
  const rejected = new Set(data.rejected);
  return [...numbers].map((number, place) => {
    const own = all => all.subarray(place * classes, (place + 1) * classes);
    const probabilities = logits.map(all => softmax(own(all)));
    const predicted = probabilities.map(some => some.indexOf(Math.max(...some)));
    return {
      number, place, truth: truth[place], probabilities, predicted,
      confidence: probabilities.map(some => Math.max(...some)),
      right: predicted.map(label => label === truth[place]),
      rejected: rejected.has(number), copy: copies[place] === 1, votes: data.votes?.[number],
    };
  });
}

function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, logit => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}

// --- filtering -----------------------------------------------------------------------------------

const EVIDENCE = {
  "": () => true,
  rejected: image => image.rejected,
  accepted: image => !image.rejected,
  copy: image => image.copy,
  original: image => !image.copy,
};

function passes({ image, model }, filter) {
  const sure = 100 * image.confidence[model];
  const alone = ["corrected", "lost"].includes(filter.model); // the other model is right
  return FAULTY[filter.model].includes(model) && (!alone || image.right[1 - model])
    && (filter.truth === "" || image.truth === Number(filter.truth))
    && (filter.predicted === "" || image.predicted[model] === Number(filter.predicted))
    && sure >= Number(filter.least) && sure <= Number(filter.most)
    && EVIDENCE[filter.evidence](image);
}

function filterErrors(filter) {
  const found = errors.filter(error => passes(error, filter));
  const surer = (a, b) => b.image.confidence[b.model] - a.image.confidence[a.model];
  if (filter.order === "surest") found.sort(surer);
  if (filter.order === "unsurest") found.sort((a, b) => surer(b, a));
  return found;
}

const readForm = () => Object.fromEntries(Object.keys(START).map(name => [name, byId(name).value]));

function openAddress() {
  const asked = { ...START, ...readAddress() };
  for (const name of Object.keys(START)) {
    const field = byId(name);
    field.value = asked[name];
    if (field.value !== asked[name]) field.value = START[name]; // it takes no such value
  }
  show(readForm());
}

// Show what passes a filter; the form and the address follow.
function show(filter) {
  state = { ...filter };
  for (const [name, value] of Object.entries(state)) {
    if (byId(name).value !== value) byId(name).value = value;
  }
  const changed = Object.entries(state).filter(([name, value]) => value !== START[name]);
  writeAddress(Object.fromEntries(changed));
  shown = EACH;
  showConfusion();
  showTiles();
}

// --- the confusion matrix --------------------------------------------------------------------------

function showConfusion() {
  const classes = data.classes, counts = classes.map(() => classes.map(() => 0));
  for (const { image, model } of filterErrors({ ...state, truth: "", predicted: "" })) {
    counts[image.truth][image.predicted[model]] += 1;
  }
  const most = Math.max(1, ...counts.flat());
  const isChosen = (truth, predicted) =>
    state.truth === String(truth) && state.predicted === String(predicted);
  const entry = [Number(state.truth || 0), Number(state.predicted || 0)]; // where Tab comes in
  if (entry[0] === entry[1]) entry[1] = entry[0] ? 0 : 1;
  const countCell = (truth, predicted) => {
    if (truth === predicted) return cell("·");
    const number = counts[truth][predicted], pressed = isChosen(truth, predicted);
    const made = element("button", {
      id: `cell-${truth}-${predicted}`, type: "button", textContent: number || "",
      tabIndex: truth === entry[0] && predicted === entry[1] ? 0 : -1, "aria-pressed": pressed,
      "aria-label": `${classes[truth]} taken for ${classes[predicted]}: ${number}`,
      onclick: () => press(truth, predicted, pressed),
      onkeydown: event => moveFocus(event, truth, predicted),
    });
    const share = Math.round(75 * Math.sqrt(number / most));
    made.style.background = `color-mix(in srgb, var(--shade) ${share}%, var(--paper))`;
    return element("td", {}, made);
  };
  const heads = classes.map(name =>
    element("th", { scope: "col" }, element("span", { textContent: name })));
  byId("confusion").replaceChildren(
    element("thead", {}, element("tr", {}, element("td"), ...heads)),
    element("tbody", {}, ...classes.map((name, truth) => element("tr", {},
      element("th", { scope: "row", textContent: name }),
      ...classes.map((_, predicted) => countCell(truth, predicted))))));
}

function press(truth, predicted, pressed) {
  show({ ...state, truth: pressed ? "" : String(truth), predicted: pressed ? "" : String(predicted) });
  byId(`cell-${truth}-${predicted}`).focus();
}

function moveFocus(event, truth, predicted) {
  const way = ARROWS[event.key];
  if (!way) return;
  event.preventDefault();
  const step = times => byId(`cell-${truth + times * way[1]}-${predicted + times * way[0]}`);
  (step(1) ?? step(2))?.focus(); // the diagonal has no errors
}

// --- the images ------------------------------------------------------------------------------------

function showTiles() {
  const found = filterErrors(state), pictures = new Set(found.map(error => error.image)).size;
  byId("count").textContent = found.length
    ? `${count(found.length, "error")} on ${count(pictures, "image")}`
    : "No error passes this filter";
  byId("tiles").replaceChildren(...found.slice(0, shown).map(makeTile));
  const left = found.length - shown;
  byId("more").hidden = left <= 0;
  byId("more").textContent = `Show ${Math.min(left, EACH)} more of ${left.toLocaleString("en")}`;
}

function showMore() {
  const first = shown;
  shown += EACH;
  showTiles();
  byId("tiles").children[first].firstChild.focus();
}

const sureness = share => (share > 0.9999 ? "> 99.99\u00a0%" : percent(share, share > 0.99 ? 2 : 0));

function makeTile({ image, model }) {
  const predicted = data.classes[image.predicted[model]], truth = data.classes[image.truth];
  const sure = sureness(image.confidence[model]), name = data.models[model];
  const picture = element("canvas", { width: 32, height: 32, "aria-hidden": "true" });
  paint(picture, image);
  return element("li", {}, element("button", {
    type: "button", onclick: () => open(image),
    "aria-label": `Test image ${image.number}, ${truth}: taken for ${predicted}, ${sure}, ${name}`,
  }, picture, element("b", { textContent: `${predicted} ${sure}` }), `is ${truth}`,
  element("span", { className: "soft", textContent: name.split(" ")[0] })));
}

function paint(canvas, { place }) {
  const left = 32 * (place % data.across), top = 32 * Math.floor(place / data.across);
  canvas.getContext("2d").drawImage(sheet, left, top, 32, 32, 0, 0, 32, 32);
}

function open(image) {
  const truth = data.classes[image.truth];
  byId("detail-title").textContent = `Test image ${image.number}: ${truth}`;
  byId("enlarged").setAttribute("aria-label", `The image, ${truth}, enlarged`);
  paint(byId("enlarged"), image);
  byId("detail-facts").textContent = describe(image);
  const [, tuned] = image.probabilities, order = [...tuned.keys()].sort((a, b) => tuned[b] - tuned[a]);
  const rows = order.map(k => {
    const name = data.classes[k] + (k === image.truth ? " (true)" : "");
    const bars = image.probabilities.map(some => barCell(percent(some[k], 2), some[k]));
    return element("tr", {}, element("th", { scope: "row", textContent: name }), ...bars);
  });
  const names = ["class", ...data.models];
  fillTable(byId("probabilities"), "Probabilities of all classes", names, rows);
  byId("detail").showModal();
}

// What others found about an image, in sentences.
function describe(image) {
  const said = [];
  if (image.votes) {
    const [other, given, theirs, neither, both] = image.votes, name = data.classes[other];
    said.push(`Of five human raters ${given} chose the label ${data.classes[image.truth]}, `
      + `${theirs} ${name}, ${both} both and ${neither} neither`
      + `${image.rejected ? ": its label is rejected" : ""}.`);
  }
  if (image.copy) said.push("The training images hold a near-copy of it.");
  return said.join(" ");
}

const ready = begins(start);
