// The table of cells: filters, and the panel that opens below a row.
const rows = [...document.querySelectorAll("#table tr.cell")].map((tr) => ({ tr, detail: null, names: tr.dataset, text: `${tr.dataset.verdict} ${tr.querySelector(".open").textContent} ${tr.dataset.metric}`.toLowerCase() }));
const FILTERS = ["model", "workload", "metric", "verdict", "device"].filter((name) => byId(`filter-${name}`));

function filter() {
  const chosen = FILTERS.map((name) => [name, byId(`filter-${name}`).value]).filter(([, value]) => value);
  const words = byId("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const isShown = chosen.every(([name, value]) => row.names[name] === value) && words.every((word) => row.text.includes(word));
    if (row.tr.hidden === isShown) row.tr.hidden = !isShown;
    if (row.detail) row.detail.hidden = !isShown;
    count += isShown;
  }
  byId("shown").textContent = count === rows.length ? `${count} cells` : `${count} of ${rows.length} cells`;
}

function toggle(row) {
  const isOpen = row.detail === null;
  if (isOpen) {
    const cell = dataOf("cell-data")[row.names.cell];
    row.detail = element("tr", { className: "detail" }, element("td", { colSpan: row.tr.cells.length }, ...panel(cell)));
    row.tr.after(row.detail);
    watch(row.detail);
  } else {
    forget(row.detail);
    row.detail.remove();
    row.detail = null;
  }
  row.tr.classList.toggle("is-open", isOpen);
  row.tr.querySelector(".open").setAttribute("aria-expanded", String(isOpen));
}

function panel(cell) {
  const parts = [];
  if (cell.description) parts.push(element("p", { textContent: `${cell.metric}: ${cell.description}.` }));
  if (cell.reason) parts.push(element("p", { className: "reason", textContent: cell.reason }));
  for (const error of cell.errors ?? []) parts.push(element("pre", { textContent: error }));
  if (cell.again) parts.push(command("measure again", cell.again));
  if (cell.accept) parts.push(command(cell.verdict === "missing-baseline" ? "record it" : "accept, if it is intended", cell.accept));
  if (cell.log) parts.push(element("p", {}, element("a", { href: cell.log, textContent: "engine log" })));
  const facts = factsOf(cell);
  if (facts) parts.push(element("p", { textContent: facts }));
  parts.push(element("div", { className: "charts" }, ...cellFigures(cell)));
  return parts;
}

function command(what, line) {
  return element("p", { className: "command" }, element("span", { textContent: what }), element("code", { textContent: line }));
}

function factsOf(cell) {
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const facts = [];
  if (cell.tolerance) facts.push(`tolerance ${percent(cell.tolerance)}`);
  if (cell.mde) facts.push(`smallest change that could be told: ${percent(cell.mde)}`);
  if (cell.p_value !== undefined) facts.push(`p = ${Number(cell.p_value.toPrecision(2))}`);
  if (cell.baseline_file) facts.push(`baseline in ${cell.baseline_file}`);
  return facts.join("; ");
}

function cellFigures(cell) {
  const isNumber = (cell.launches ?? []).every((value) => typeof value === "number");
  const figures = [];
  if (cell.log_ratios) figures.push(pairsFigure(cell));
  if (cell.launches && isNumber) figures.push(launchesFigure(cell));
  if (cell.launches && !isNumber) figures.push(textsFigure(cell));
  if (cell.history) figures.push(historyFigure(cell));
  return figures;
}

// Values that are texts, such as token ids, have no axis: they are listed.
function textsFigure(cell) {
  const lines = cell.launches.map((value, place) => `launch ${place + 1}: ${value}`);
  if (cell.baseline !== undefined) lines.unshift(`${cell.arms ? "arm a" : "baseline"}: ${cell.baseline}`);
  const caption = element("figcaption", {}, element("h4", { textContent: `${cell.metric} of each launch` }), element("p", { textContent: "An exact metric: every line should be the same." }));
  return element("figure", { className: "wide" }, caption, element("pre", { textContent: lines.join("\n") }));
}
