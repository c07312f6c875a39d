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

const colour = name => getComputedStyle(document.body).getPropertyValue(`--${name}`).trim();

const onSchemeChange = draw =>
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

// --- the address ---------------------------------------------------------------------------------

const readAddress = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function writeAddress(state) {
  history.replaceState(null, "", `#${new URLSearchParams(state)}`);
}
