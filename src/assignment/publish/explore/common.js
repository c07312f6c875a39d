// What both pages stand on: the data they carry, elements, colours, and an address that remembers.
"use strict";

const byId = id => document.getElementById(id);

// The page's data: gzip in base64, as Python wrote it.
async function readData() {
  const packed = unpack(byId("data").textContent, Uint8Array);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function unpack(text, Numbers) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return new Numbers(bytes.buffer);
}

// An element of HTML; a property that it does not have becomes an attribute.
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Start a page; where it cannot be shown, a note says why.
async function begins(start) {
  try {
    await start();
  } catch (error) {
    const said = `This page could not be shown: ${error.message}. It needs a browser of 2023 or later.`;
    byId("content").prepend(element("p", { className: "note", textContent: said }));
    throw error;
  }
}

const colour = name => getComputedStyle(document.body).getPropertyValue(`--${name}`).trim();

const onSchemeChange = draw =>
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

const percent = (share, digits) => `${(100 * share).toFixed(digits)}\u00a0%`;

// Which way an arrow key goes, right and down.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// --- tables --------------------------------------------------------------------------------------

function fillTable(table, caption, names, rows) {
  const heads = names.map(name => element("th", { scope: "col", textContent: name }));
  const head = element("thead", {}, element("tr", {}, ...heads));
  const title = element("caption", { textContent: caption });
  table.replaceChildren(title, head, element("tbody", {}, ...rows));
}

const cell = (text, className = "") => element("td", { textContent: text, className });

// A number over a bar of some length, from 0 to 1.
function barCell(text, length) {
  const shade = element("i", { "aria-hidden": "true" });
  shade.style.width = `${100 * Math.max(0, length)}%`;
  return element("td", { className: "score" }, shade, element("span", { textContent: text }));
}

// --- the address ---------------------------------------------------------------------------------

const readAddress = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function writeAddress(state) {
  history.replaceState(null, "", `#${new URLSearchParams(state)}`);
}
