// What all scripts share: the page's data, elements whose text is never markup, and numbers as people read them.
const byId = (id) => document.getElementById(id);
const read = new Map();

function dataOf(id) {
  if (!read.has(id)) read.set(id, JSON.parse(byId(id).textContent));
  return read.get(id);
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Plotly reads some tags in its texts; names out of results are to be shown as they are.
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function show(value, unit = "") {
  if (value === null || value === undefined) return "—";
  if (typeof value === "string") return value;
  if (unit === "B") {
    const names = ["B", "KiB", "MiB", "GiB", "TiB"];
    let place = 0;
    for (; Math.abs(value) >= 1024 && place < names.length - 1; place += 1) value /= 1024;
    return `${Number(value.toPrecision(4))} ${names[place]}`;
  }
  const number = Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
  return unit === "" || unit === "ratio" ? number : `${number} ${unit}`;
}

function showChange(change) {
  return `${change > 0 ? "+" : ""}${(100 * change).toFixed(1)} %`;
}

// Bytes are drawn in one binary unit that fits the largest of them; everything else as it is.
function scaleOf(unit, values) {
  if (unit !== "B") return { factor: 1, unit };
  const largest = Math.max(...values.map(Math.abs), 1);
  const place = Math.min(Math.floor(Math.log(largest) / Math.log(1024)), 4);
  return { factor: 1024 ** place, unit: ["B", "KiB", "MiB", "GiB", "TiB"][place] };
}
