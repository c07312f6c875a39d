// The page of the films: search, map, neighbours, and a worker that trains.
"use strict";

const FEW = 8; // options of the search, and colours of genres
const NOBODY = 0xffff;
const WORDS = { sgd: "gradient descent", momentum: "momentum", nesterov: "Nesterov", adam: "Adam" };
const MOST_RUNS = 6; // that are compared

let films, likes, vectors; // what the page carries; a film is its place in the list by movieId
let ten; // the nearest to the film that is shown, with their scores
const state = { film: 0, ranking: "cosine", colour: "genre" };

async function start() {
  films = await readData();
  const numbers = {
    ids: Uint32Array, years: Uint16Array, users: Uint16Array, movies: Uint16Array,
    halfStars: Uint8Array, mapped: Uint16Array, places: Uint16Array,
    components: Int16Array, longest: Float32Array,
  };
  for (const [name, Type] of Object.entries(numbers)) films[name] = unpack(films[name], Type);
  likes = buildLikes(films, films.threshold);
  vectors = Float64Array.from(films.components, (part, k) =>
    (part / 32767) * films.longest[Math.floor(k / films.dim)]);
  byId("tools").hidden = false;
  startSearch();
  startMap();
  startTraining();
  for (const name of ["ranking", "colour"]) {
    byId(name).onchange = () => show({ [name]: byId(name).value });
  }
  films.examples.forEach((film, k) => byId("examples").append(k ? ", " : "", filmButton(film)));
  onSchemeChange(() => show({}));
  window.onhashchange = openAddress;
  openAddress();
}

function openAddress() {
  const { film, ranking, colour: shade } = readAddress();
  const place = films.ids.indexOf(Number(film));
  const has = (name, value) => [...byId(name).options].some(option => option.value === value);
  show({
    film: likes.columnOf.has(place) ? place : films.examples[0],
    ranking: has("ranking", ranking) ? ranking : "cosine",
    colour: has("colour", shade) ? shade : "genre",
  });
}

// Change what is shown; the address follows.
function show(change) {
  Object.assign(state, change);
  for (const name of ["ranking", "colour"]) byId(name).value = state[name];
  writeAddress({ film: films.ids[state.film], ranking: state.ranking, colour: state.colour });
  showFilm();
  drawMap();
  if (training.current) send({ film: state.film });
  drawChart();
}

const likesOf = film => likes.n[likes.columnOf.get(film)] ?? 0;
const filmButton = film => element("button", {
  className: "link", type: "button", textContent: films.titles[film],
  onclick: () => {
    show({ film });
    byId("film-title").focus();
  },
});

// --- search --------------------------------------------------------------------------------------

let rules, bySpelling; // the package's own patterns, and films by every way to write their titles

function startSearch() {
  const letter = "[\\p{L}\\p{N}_]", { year, alternative, leading, trailing, letters } = films.spelling;
  const pattern = (text, flags = "") => new RegExp(text.replaceAll("\\w", letter), `u${flags}`);
  rules = {
    year: pattern(year), alternatives: pattern(alternative, "gi"), leading: pattern(leading),
    trailing: pattern(trailing), words: pattern("\\w+", "g"), letters,
  };
  bySpelling = new Map();
  films.titles.forEach((title, film) => {
    const whole = title.replace(rules.year, "");
    const inside = [...whole.matchAll(rules.alternatives)].map(found => found[1]);
    const names = [whole, whole.replace(rules.alternatives, ""), ...inside];
    for (const spelling of new Set(names.flatMap(spellings))) {
      bySpelling.set(spelling, [...(bySpelling.get(spelling) ?? []), film]);
    }
  });
  const field = byId("search");
  field.oninput = () => listOptions(suggest(field.value));
  field.onkeydown = event => onSearchKey(event, field);
  field.onblur = () => listOptions([]);
}

// A name as names are compared: with its article in front, and without any.
function spellings(name) {
  const lower = name.toLowerCase().replaceAll("ß", "ss").normalize("NFKD");
  const letters = [...lower].map(one => rules.letters[one] ?? one).join("");
  const plain = letters.replace(/\p{Mn}/gu, "").trim();
  const whole = plain.replace(rules.trailing, "$2 $1");
  return [whole, whole.replace(rules.leading, "")].map(text => {
    const words = text.replace(/['’.]/g, "").match(rules.words) ?? [];
    return words.join(" ") || text;
  });
}

// The films that a query names: those with likes, where there are any.
function find(query) {
  const ending = query.match(rules.year)?.[0].trim() ?? "";
  const names = spellings(query.replace(rules.year, ""));
  const called = new Set(names.flatMap(name => bySpelling.get(name) ?? []));
  const namesakes = [...called].sort((a, b) => a - b)
    .filter(film => films.titles[film].endsWith(ending));
  const exact = namesakes.filter(film => films.titles[film] === query.trim());
  const matches = exact.length ? exact : namesakes;
  const liked = matches.filter(film => likes.columnOf.has(film));
  return liked.length ? liked : matches;
}

// What to offer: the films of that name, then titles that go on from it, hold it, or look like it.
function suggest(query) {
  const asked = spellings(query.replace(rules.year, ""))[0];
  if (!asked) return [];
  const popular = accept => [...bySpelling]
    .filter(([spelling]) => accept(spelling)).flatMap(([, some]) => some)
    .filter(film => likes.columnOf.has(film)).sort((a, b) => likesOf(b) - likesOf(a));
  const found = [
    ...find(query).filter(film => likes.columnOf.has(film)),
    ...popular(spelling => spelling.startsWith(asked)),
    ...popular(spelling => ` ${spelling}`.includes(` ${asked}`)),
  ];
  const alike = found.length ? [] : popular(spelling => likeness(spelling, asked) > 0.6);
  return [...new Set([...found, ...alike])].slice(0, FEW);
}

// The share of pairs of letters that two spellings have in common.
function likeness(first, second) {
  const pairs = text => new Set([...text].slice(1).map((letter, k) => text[k] + letter));
  const [a, b] = [pairs(first), pairs(second)];
  return (2 * [...a].filter(pair => b.has(pair)).length) / (a.size + b.size);
}

function listOptions(found, active = -1) {
  const list = byId("options"), field = byId("search");
  list.replaceChildren(...found.map((film, k) => element("li", {
    id: `option-${k}`, role: "option", "aria-selected": String(k === active), value: film,
    textContent: `${films.titles[film]}, ${count(likesOf(film), "like")}`,
    onpointerdown: event => event.preventDefault(), // the field keeps the focus
    onclick: () => take(film),
  })));
  list.hidden = !found.length;
  field.setAttribute("aria-expanded", found.length > 0);
  if (active < 0) return field.removeAttribute("aria-activedescendant");
  field.setAttribute("aria-activedescendant", `option-${active}`);
  list.children[active].scrollIntoView({ block: "nearest" });
}

function onSearchKey(event, field) {
  const options = [...byId("options").children], shown = options.map(option => option.value);
  const active = options.findIndex(option => option.getAttribute("aria-selected") === "true");
  const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (move) {
    event.preventDefault();
    const found = shown.length ? shown : suggest(field.value);
    const next = active < 0 ? (move > 0 ? 0 : found.length - 1) : active + move;
    if (found.length) listOptions(found, (next + found.length) % found.length);
  } else if (event.key === "Escape") {
    if (shown.length) listOptions([]);
    else field.value = "";
  } else if (event.key === "Enter" && field.value.trim()) {
    if (active >= 0) take(shown[active]);
    else submit(field.value);
  }
}

function submit(query) {
  const matches = find(query);
  if (matches.length === 1 && likes.columnOf.has(matches[0])) return take(matches[0]);
  const titles = matches.map(film => films.titles[film]).join("; ");
  byId("said").textContent = !matches.length
    ? `No film is called “${query.trim()}”.`
    : matches.length > 1
      ? `“${query.trim()}” names ${matches.length} films: ${titles}. Ask with the year.`
      : `Nobody gave ${titles} at least ${films.threshold} stars, so it has no likes to compare.`;
  listOptions(suggest(query));
}

function take(film) {
  byId("search").value = films.titles[film];
  byId("said").textContent = "";
  listOptions([]);
  show({ film });
}

// --- a film and its ten --------------------------------------------------------------------------

function score(film, ranking) {
  const column = likes.columnOf.get(film), cosine = ranking.startsWith("cosine");
  if (ranking.endsWith("co-likes")) return scoreColikes(likes, column, cosine);
  return scoreVectors(vectors, films.dim, column, cosine);
}

// The ten films under a ranking, with their scores.
function nearest(film, ranking) {
  const scores = score(film, ranking);
  return pickTen(scores, likes).map(column => ({ film: likes.movies[column], score: scores[column] }));
}

function showFilm() {
  const { film, ranking } = state;
  ten = nearest(film, ranking);
  const fans = countColikes(likes, likes.columnOf.get(film)), cosines = score(film, "cosine");
  const genres = films.genresOf[film], named = some => some.map(one => films.genres[one]).join(", ");
  byId("film-title").textContent = films.titles[film];
  const place = films.mapped.includes(film) ? "" : "; too few likes for the map";
  byId("film-facts").textContent = ten.length
    ? `${named(genres)}; ${count(likesOf(film), "like")}${place}.`
    : `${named(genres)}. Nobody who liked it liked another film, so its vector has no direction.`;
  const own = ranking !== "cosine", most = Math.max(...ten.map(one => Math.abs(one.score)), 1e-9);
  const digits = ranking === "co-likes" ? 0 : 3;
  const rows = ten.map((one, k) => {
    const column = likes.columnOf.get(one.film), both = fans[column];
    const known = Number.isFinite(cosines[column]);
    const shared = named(films.genresOf[one.film].filter(genre => genres.includes(genre)));
    return element("tr", {},
      cell(k + 1), element("td", {}, filmButton(one.film)),
      barCell(one.score.toFixed(digits), one.score / most),
      ...(own ? [cell(known ? cosines[column].toFixed(3) : "-", "number")] : []),
      cell(likesOf(one.film), "number"), cell(count(both, "fan") + (shared && `; ${shared}`)));
  });
  const names = ["#", "film", ranking, ...(own ? ["cosine"] : []), "likes", "in common"];
  const caption = `Nearest by ${byId("ranking").selectedOptions[0].text}`;
  fillTable(byId("ten"), caption, names, rows);
}

// --- the map -------------------------------------------------------------------------------------

const view = { zoom: 1, x: 0.5, y: 0.5, hover: -1 }; // the place in the middle, in units of the map
let dots; // of each film on the map: film, x, y from 0 to 1

function startMap() {
  const canvas = byId("map");
  dots = [...films.mapped].map((film, k) =>
    ({ film, x: films.places[2 * k] / 65535, y: 1 - films.places[2 * k + 1] / 65535 }));
  const width = Math.max(...dots.map(dot => dot.x)), top = Math.min(...dots.map(dot => dot.y));
  for (const dot of dots) { // the longer side fills the map, the shorter stands in its middle
    dot.x += (1 - width) / 2;
    dot.y -= top / 2;
  }
  let dragged = null;
  canvas.onpointerdown = event => (dragged = { ...at(event), moved: 0, view: { ...view } });
  canvas.onpointermove = event => {
    const here = at(event);
    if (dragged && view.zoom > 1) {
      dragged.moved = Math.max(dragged.moved, Math.hypot(here.x - dragged.x, here.y - dragged.y));
      if (dragged.moved > 4) {
        const right = (here.x - dragged.x) / mapScale(), down = (here.y - dragged.y) / mapScale();
        look(view.zoom, dragged.view.x - right, dragged.view.y - down);
      }
    } else hover(event.pointerType === "touch" ? -1 : dotAt(here, 10), here);
  };
  canvas.onpointerup = event => {
    const dot = dotAt(at(event), event.pointerType === "touch" ? 24 : 10);
    if (dot >= 0 && !(dragged?.moved > 4)) show({ film: dots[dot].film });
    dragged = null;
  };
  canvas.onpointercancel = canvas.onpointerleave = () => { dragged = null; hover(-1); };
  canvas.onkeydown = onMapKey;
  byId("closer").onclick = () => look(view.zoom * 1.6, ...middle());
  byId("farther").onclick = () => look(view.zoom / 1.6);
  byId("whole").onclick = () => look(1);
  new ResizeObserver(() => drawMap()).observe(canvas);
}

const at = event => ({ x: event.offsetX, y: event.offsetY });
const mapScale = () => (Math.min(byId("map").clientWidth, byId("map").clientHeight) - 24) * view.zoom;

function project(dot) {
  const { clientWidth, clientHeight } = byId("map"), reach = mapScale();
  return [clientWidth / 2 + (dot.x - view.x) * reach, clientHeight / 2 + (dot.y - view.y) * reach];
}

// Where zooming goes: to the film that is shown, where it is on the map.
function middle() {
  const dot = dots.find(one => one.film === state.film);
  return dot ? [dot.x, dot.y] : [view.x, view.y];
}

function look(zoom, x = view.x, y = view.y) {
  const inside = place => Math.min(Math.max(place, 0), 1);
  view.zoom = Math.min(Math.max(zoom, 1), 16);
  [view.x, view.y] = view.zoom === 1 ? [0.5, 0.5] : [inside(x), inside(y)];
  byId("map").classList.toggle("near", view.zoom > 1);
  drawMap();
}

function dotAt({ x, y }, within) {
  let best = -1, least = within;
  dots.forEach((dot, k) => {
    const [right, down] = project(dot), away = Math.hypot(right - x, down - y);
    if (away < least) [best, least] = [k, away];
  });
  return best;
}

function hover(dot, { x, y } = {}) {
  const tip = byId("tip");
  tip.hidden = dot < 0;
  if (dot >= 0) {
    tip.textContent = `${films.titles[dots[dot].film]}, ${count(likesOf(dots[dot].film), "like")}`;
    const room = byId("map").clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(x + 12, room))}px`;
    tip.style.top = `${y + 16}px`;
  }
  if (dot === view.hover) return;
  view.hover = dot;
  drawMap();
}

// An arrow goes to the nearest film on that side; where the film has no place, to one in the middle.
function onMapKey(event) {
  const way = ARROWS[event.key];
  const zoom = { "+": 1.6, "=": 1.6, "-": 1 / 1.6 }[event.key];
  if (zoom) look(view.zoom * zoom, ...middle());
  if (!way) return;
  event.preventDefault();
  const [x, y] = middle();
  const distance = dot => {
    const along = (dot.x - x) * way[0] + (dot.y - y) * way[1];
    const across = Math.abs((dot.x - x) * way[1]) + Math.abs((dot.y - y) * way[0]);
    return dot.film !== state.film && along > 0 && across <= along ? along + 2 * across : Infinity;
  };
  const next = dots.reduce((best, dot) => (distance(dot) < distance(best) ? dot : best));
  if (distance(next) === Infinity) return;
  show({ film: next.film });
  if (view.zoom > 1) look(view.zoom, next.x, next.y);
  byId("said").textContent = `${films.titles[next.film]}, ${count(likesOf(next.film), "like")}`;
}

function drawMap() {
  const canvas = byId("map"), sharp = devicePixelRatio, pen = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * sharp;
  canvas.height = canvas.clientHeight * sharp;
  pen.scale(sharp, sharp);
  const shade = shading(), ink = colour("ink"), paper = colour("paper");
  const size = Math.min(2.6 * Math.sqrt(view.zoom), 5);
  pen.globalAlpha = 0.8;
  for (const dot of dots) {
    pen.fillStyle = shade(dot.film);
    disc(pen, project(dot), size);
  }
  pen.globalAlpha = 1;
  const dotOf = film => dots.find(dot => dot.film === film), own = dotOf(state.film);
  pen.strokeStyle = pen.fillStyle = ink;
  pen.font = `bold 12px ${colour("sans")}`;
  ten.forEach(({ film }, k) => {
    const dot = dotOf(film);
    if (!dot) return;
    const [x, y] = project(dot);
    pen.lineWidth = 1;
    if (own) line(pen, project(own), [x, y]);
    ring(pen, [x, y], size + 2, 1.5);
    write(pen, String(k + 1), x + size + 3, y - size, ink, paper);
  });
  if (view.hover >= 0) ring(pen, project(dots[view.hover]), size + 2, 2);
  if (!own) return;
  const [x, y] = project(own), title = films.titles[own.film], room = canvas.clientWidth;
  pen.fillStyle = ink;
  disc(pen, [x, y], size + 2);
  pen.font = `bold 14px ${colour("sans")}`;
  const width = pen.measureText(title).width;
  write(pen, title, Math.max(4, Math.min(x - width / 2, room - width - 4)), y - 12, ink, paper);
}

function disc(pen, [x, y], radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function ring(pen, [x, y], radius, width) {
  pen.lineWidth = width;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.stroke();
}

function line(pen, from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function write(pen, text, x, y, ink, paper) {
  pen.save();
  pen.lineWidth = 3.5;
  pen.lineJoin = "round";
  pen.strokeStyle = paper;
  pen.strokeText(text, x, y);
  pen.fillStyle = ink;
  pen.fillText(text, x, y);
  pen.restore();
}

// What gives each film its colour; the legend says what it means.
function shading() {
  if (state.colour === "genre") return shadeByGenre();
  if (state.colour === "year") return shadeByNumber(film => films.years[film]);
  return shadeByNumber(likesOf, Math.log);
}

function shadeByGenre() {
  const first = film => films.genresOf[film][0], counts = new Map(), other = colour("other");
  for (const { film } of dots) counts.set(first(film), (counts.get(first(film)) ?? 0) + 1);
  const frequent = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, FEW);
  const shades = new Map(frequent.map((genre, k) => [genre, colour(`c${k}`)]));
  const swatches = [...shades].map(([genre, shade]) => swatch(films.genres[genre], shade));
  byId("legend").replaceChildren(...swatches, swatch("other", other));
  return film => shades.get(first(film)) ?? other;
}

// From the lowest number to the highest, but for a twentieth on either side; 0 is not known.
function shadeByNumber(number, scale = value => value) {
  const known = dots.map(dot => number(dot.film)).filter(Boolean).sort((a, b) => a - b);
  const low = known[Math.floor(0.05 * known.length)], high = known[Math.floor(0.95 * known.length)];
  const shades = ["few", "some", "many"].map(colour), other = colour("other");
  const ramp = element("i", { className: "ramp" });
  ramp.style.background = `linear-gradient(to right, ${shades})`;
  byId("legend").replaceChildren(element("span", {}, `up to ${low}`, ramp, `${high} and more`));
  const parts = shades.map(shade => [1, 3, 5].map(from => parseInt(shade.slice(from, from + 2), 16)));
  return film => {
    if (!number(film)) return other;
    const span = scale(high) - scale(low) || 1;
    const share = 2 * Math.min(Math.max((scale(number(film)) - scale(low)) / span, 0), 1);
    const from = Math.min(Math.floor(share), 1);
    return `rgb(${parts[from].map((part, k) => part + (parts[from + 1][k] - part) * (share - from))})`;
  };
}

function swatch(name, shade) {
  const dot = element("i", { "aria-hidden": "true" });
  dot.style.background = shade;
  return element("span", {}, dot, name);
}

// --- training ------------------------------------------------------------------------------------

const training = { runs: [], current: null, worker: null, going: false, begun: 0 };

function startTraining() {
  for (const { threshold } of films.likes) {
    byId("threshold").append(new Option(`${threshold} stars`, threshold));
  }
  for (const dim of Object.keys(films.likes[0].floors)) byId("dim").append(new Option(dim, dim));
  byId("threshold").value = films.threshold;
  byId("dim").value = 10;
  byId("settings").onsubmit = event => {
    event.preventDefault();
    begin(MOST_STEPS);
  };
  byId("pause").onclick = () => send({ steps: training.going ? 0 : MOST_STEPS });
  byId("step").onclick = () => {
    if (training.current && !training.current.diverged) send({ steps: 1 });
    else begin(1);
  };
  byId("reset").onclick = reset;
  byId("forget").onclick = () => {
    training.runs = training.runs.filter(run => run === training.current);
    showTraining();
  };
  byId("optimiser").onchange = () => {
    byId("rate").value = defaultRate();
    sayRate();
  };
  byId("rate").oninput = byId("threshold").onchange = sayRate;
  byId("rate").value = defaultRate();
  new ResizeObserver(drawChart).observe(byId("chart"));
  sayRate();
  showTraining();
}

// The slider spans four decades: of the predicted step, or for Adam, whose steps do not grow with
// the gradient, from 0.0001.
const isAdam = () => byId("optimiser").value === "adam";
const lowest = () => (isAdam() ? 1e-4 : 1e-3);
const defaultRate = () => Math.log10((isAdam() ? 0.1 : 0.5) / lowest());
const chosenRate = () => Number((lowest() * 10 ** byId("rate").value).toPrecision(2));
const chosenLikes = () => films.likes.find(one => String(one.threshold) === byId("threshold").value);

function sayRate() {
  const rate = chosenRate(), { step } = chosenLikes(), stable = STABLE[byId("optimiser").value];
  const mark = byId("limit"), share = Math.log10(stable / lowest()) / 4;
  mark.hidden = isAdam();
  mark.textContent = `stable up to ${Number(stable.toPrecision(2))}`;
  mark.style.left = `calc(8px + (100% - 16px) * ${share})`;
  const said = isAdam()
    ? `${rate}: about how far Adam moves each number in a step, so that no curvature limits it`
    : `${rate} × the predicted largest stable step of gradient descent, ${step.toPrecision(3)}`;
  byId("rate-said").textContent = said;
  byId("rate").setAttribute("aria-valuetext", said);
}

// The worker is this page's own text; it starts with the first run.
function send(message) {
  if (!training.worker) {
    const text = new Blob([byId("worker").textContent], { type: "text/javascript" });
    training.worker = new Worker(URL.createObjectURL(text));
    training.worker.onmessage = ({ data }) => receive(data);
    const { users, movies, halfStars } = films;
    const every = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 100;
    training.worker.postMessage({ ratings: { users, movies, halfStars }, every });
  }
  training.worker.postMessage(message);
}

function begin(steps) {
  const { threshold, step, floors } = chosenLikes(), dim = Number(byId("dim").value);
  const optimiser = byId("optimiser").value, rate = chosenRate(), lr = isAdam() ? rate : rate * step;
  const seed = Math.floor(Math.abs(Number(byId("seed").value))) || 0;
  byId("seed").value = seed;
  training.runs = training.runs.slice(1 - MOST_RUNS);
  const used = training.runs.map(run => run.shade), id = ++training.begun;
  const run = {
    id, threshold, dim, optimiser, rate, seed, floor: floors[dim].value,
    tens: unpack(floors[dim].tens, Uint16Array), losses: [], diverged: false, ten: [], same: null,
    shade: [0, 1, 2, 3, 4, 7].find(k => !used.includes(k)),
  };
  training.runs.push(run);
  training.current = run;
  training.going = true;
  send({ begin: { id, threshold, dim, optimiser, lr, seed }, film: state.film, steps });
  showTraining();
}

function reset() {
  send({ steps: 0 });
  training.runs = training.runs.filter(run => run !== training.current);
  training.current = null;
  showTraining();
}

function receive(news) {
  const run = training.current;
  if (news.id !== run?.id) return; // of a run that is gone
  run.losses.push(...news.losses);
  run.diverged = news.diverged;
  run.ten = news.ten.map((film, k) => ({ film, cosine: news.cosines[k] }));
  if (news.losses.length > 1) run.speed = news.speed;
  training.going = news.going;
  showTraining();
}

// The ten films of the floor, where they are known: of films on the map.
function convergedTen(run) {
  const place = films.mapped.indexOf(state.film), ten = run.tens.subarray(10 * place, 10 * place + 10);
  return place < 0 || ten[0] === NOBODY ? null : [...ten];
}

const aboveFloor = run => run.losses.at(-1) / run.floor - 1;
const sayAbove = share => (share < 1e-6 ? "less than 0.0001\u00a0%"
  : `${Number((100 * share).toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 4 })}\u00a0%`);

function showTraining() {
  const run = training.current, empty = !run || !run.losses.length;
  byId("pause").disabled = !run || run.diverged || run.losses.length > MOST_STEPS;
  byId("pause").textContent = training.going || !run ? "Pause" : "Go on";
  byId("reset").disabled = !run;
  byId("forget").disabled = !training.runs.some(one => one !== run);
  const verdict = empty ? "" : judge(run);
  if (byId("verdict").textContent !== verdict) byId("verdict").textContent = verdict;
  const converged = empty ? null : convergedTen(run);
  if (!empty) run.same = converged && run.ten.filter(one => converged.includes(one.film)).length;
  byId("live").replaceChildren(...(empty ? [] : run.ten).map(({ film, cosine }) => element("li", {
    className: converged?.includes(film) ? "found" : "",
    textContent: `${films.titles[film]} (${cosine.toFixed(2)})`,
  })));
  byId("live-facts").textContent = empty ? "Nothing is trained yet." : sayTen(run, converged);
  showRuns();
  drawChart();
}

function sayTen(run, converged) {
  if (run.diverged) return "Vectors of a run that diverged say nothing about films.";
  if (!run.ten.length) return `With likes from ${run.threshold} stars this film has no vector.`;
  if (!converged) return "How this film's list ends is not known here: too few likes.";
  return `After ${count(run.losses.length - 1, "step")}: ${run.same} of the ten to which it converges (✓).`;
}

// What there is to say of a run; while all is well and it goes on, nothing.
function judge(run) {
  const steps = run.losses.length - 1, limit = STABLE[run.optimiser], above = run.rate > limit;
  const why = "near the minimum a step then overshoots by more than the distance it had to go";
  if (run.diverged) {
    const times = Number((run.rate / limit).toPrecision(2));
    const reason = run.optimiser === "adam" ? "each step moves every number too far"
      : above ? `the rate is ${times} times the largest stable one, and ${why}`
        : "far from the minimum the cost curves more than at it, where the limit holds";
    return `Diverged after ${count(steps, "step")}, the loss ten times what it was at first: ${reason}.`;
  }
  if (above) return `Above the largest stable rate: ${why}, so the loss oscillates and does not settle.`;
  if (training.going) return "";
  const rest = steps >= MOST_STEPS ? "Finished" : "Paused";
  return `${rest} after ${count(steps, "step")}, ${sayAbove(aboveFloor(run))} above the floor.`;
}

function showRuns() {
  const names = [
    "run", "rate", "dimension", "likes from", "seed", "steps", "above the floor", "of the ten",
    "steps per second",
  ];
  const rows = training.runs.toReversed().filter(run => run.losses.length).map(run => {
    const mark = element("i", { "aria-hidden": "true" });
    mark.style.borderColor = colour(`c${run.shade}`);
    const unit = run.optimiser === "adam" ? "" : " ×", same = run.same === null ? "-" : run.same;
    const cells = [
      run.rate + unit, run.dim, `${run.threshold} stars`, run.seed, run.losses.length - 1,
      run.diverged ? "diverged" : sayAbove(aboveFloor(run)), run.diverged ? "-" : same,
      run.speed ? run.speed.toFixed(0) : "-",
    ];
    return element("tr", {}, element("td", {}, mark, WORDS[run.optimiser]),
      ...cells.map(text => cell(text, "number")));
  });
  byId("runs").hidden = !rows.length;
  fillTable(byId("runs"), "Runs, the latest first", names, rows);
}

// Loss above the floor, in percent of it, on a logarithmic axis; a cross ends a run that diverged.
function drawChart() {
  const chart = byId("chart"), { width, height } = chart.getBoundingClientRect();
  if (!width) return;
  const left = 78, bottom = 40, top = 10, right = 16;
  const shown = training.runs.filter(run => run.losses.length);
  const inside = share => Math.log10(Math.min(Math.max(share, 1e-4), 1e6));
  const lines = shown.map(run => run.losses.map(loss =>
    inside(Number.isFinite(loss) ? 100 * (loss / run.floor - 1) : Infinity)));
  const all = lines.flat(), steps = Math.max(50, ...lines.map(one => one.length - 1));
  const low = Math.floor(all.reduce((a, b) => Math.min(a, b), 0));
  const high = Math.ceil(all.reduce((a, b) => Math.max(a, b), 2) + 1e-9);
  const x = step => left + (step / steps) * (width - left - right);
  const y = power => top + ((high - power) / (high - low)) * (height - top - bottom);
  const parts = [];
  for (let power = low; power <= high; power += Math.ceil((high - low) / 7)) {
    const share = (10 ** power).toLocaleString("en", { maximumFractionDigits: 4 });
    parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(power), y2: y(power) }));
    parts.push(svg("text", { x: left - 8, y: y(power) + 4, "text-anchor": "end" }, `${share} %`));
  }
  const apart = [10, 25, 50, 100, 200].find(each => steps / each <= 5);
  for (let step = 0; step <= steps; step += apart) {
    parts.push(svg("text", { x: x(step), y: height - bottom + 18, "text-anchor": "middle" }, step));
  }
  parts.push(svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "steps"));
  lines.forEach((powers, k) => {
    const run = shown[k], end = powers.length - 1;
    const made = svg("polyline", {
      points: powers.map((power, step) => `${x(step).toFixed(1)},${y(power).toFixed(1)}`).join(" "),
      class: run === training.current ? "current" : "",
    });
    made.style.stroke = colour(`c${run.shade}`);
    parts.push(made);
    if (run.diverged) {
      const place = { x: x(end), y: y(powers[end]) + 5, "text-anchor": "middle", "font-size": 18 };
      const cross = svg("text", place, "×");
      cross.style.fill = colour(`c${run.shade}`);
      parts.push(cross);
    }
  });
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.replaceChildren(...parts);
}

function svg(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

const ready = begins(start);
