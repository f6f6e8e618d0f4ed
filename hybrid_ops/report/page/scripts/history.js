// The history of a cell: a dot a night, its baseline, its change points, and where versions changed.
const VERDICT_COLOURS = {
  pass: "good", faster: "news", slower: "bad", changed: "bad", "unexpected-success": "bad", "failed-to-run": "bad",
  "invalid-environment": "bad", inconclusive: "warn", "missing-baseline": "soft", "expected-failure": "warn", "not recorded": "warn",
};
const UNMARKED_VERSIONS = ["source"]; // it changes with every commit
const MOST_MARKS = 8;

function nightsOf(history) {
  const shared = dataOf("history-data");
  let before = null;
  return shared.run_lists[history.runs].map((number, place) => {
    const [name, started, key] = shared.runs[number];
    const versions = shared.versions[key];
    const isKnown = Object.keys(versions).length > 0;
    const differs = before && isKnown ? versionChanges(before, versions) : [];
    if (isKnown) before = versions;
    return { number, name, started, differs, value: history.values[place], verdict: shared.letters[history.verdicts[place]] };
  });
}

function versionChanges(before, after) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names
    .filter((name) => before[name] !== after[name])
    .map((name) => ({ name, text: `${name} ${before[name] ?? "none"} → ${after[name] ?? "none"}` }));
}

function historyFigure(cell) {
  const nights = nightsOf(cell.history);
  const changes = cell.history.changes;
  const said = changes.length ? `Change points: ${changes.length}, each with the last good and the first bad run below.` : "No change point was found.";
  const made = figure(
    `${cell.metric} over ${nights.length} run${nights.length === 1 ? "" : "s"}`,
    `Each dot is one run, coloured by its verdict; the step line is the baseline of that time. ${said} Dotted lines are new versions. ${better(cell)}`,
    (colour) => historyChart(cell, nights, colour),
    { className: "wide" },
  );
  for (const change of changes) made.append(element("pre", { className: "change", textContent: change.text }));
  return made;
}

function historyChart(cell, nights, colour) {
  const isNumber = nights.every((night) => typeof night.value !== "string");
  const values = nights.map((night) => night.value).filter((value) => value !== null);
  const { factor, unit } = scaleOf(cell.unit, isNumber ? values : [1]);
  const scaled = (value) => (typeof value === "number" ? value / factor : value);
  const traces = [
    { type: "scatter", mode: "lines", x: nights.map((night) => night.started), y: nights.map((night) => scaled(night.value)), line: { color: colour.soft, width: 1 }, hoverinfo: "skip", showlegend: false },
    ...verdictTraces(cell, nights, scaled, colour),
  ];
  if (isNumber) traces.unshift(...baselineTraces(cell.history, nights, factor, colour));
  const marks = changeMarks(cell, nights, colour);
  const versions = versionMarks(nights, colour);
  return {
    traces,
    layout: {
      height: 380, shapes: [...marks.shapes, ...versions.shapes], annotations: [...marks.annotations, ...versions.annotations],
      margin: { l: 56, r: 16, t: 40, b: 44 }, xaxis: axis("start of the run (UTC)", colour, { type: "date" }),
      yaxis: axis(unit ? `${cell.metric} (${unit})` : cell.metric, colour, isNumber ? {} : { type: "category" }),
    },
  };
}

function verdictTraces(cell, nights, scaled, colour) {
  const numbers = nights.map((night) => night.value).filter((value) => typeof value === "number");
  const bottom = numbers.length ? scaled(Math.min(...numbers)) : 0;
  return [...new Set(nights.map((night) => night.verdict))].map((verdict) => {
    const own = nights.filter((night) => night.verdict === verdict);
    const isGap = own.every((night) => night.value === null);
    return {
      type: "scatter", mode: "markers", name: isGap ? `${verdict} (no value)` : verdict, x: own.map((night) => night.started),
      y: own.map((night) => (night.value === null ? bottom : scaled(night.value))),
      marker: { size: 7, color: colour[VERDICT_COLOURS[verdict]], symbol: isGap ? "x" : "circle" },
      text: own.map((night) => [night.name, `${show(night.value, cell.unit)}, ${verdict}`, ...night.differs.map((one) => one.text)].map(plain).join("<br>")),
      hovertemplate: "%{text}<extra></extra>", showlegend: true,
    };
  });
}

// The baseline of each night as a step line, and the band of its tolerance.
function baselineTraces(history, nights, factor, colour) {
  const kept = nights.map(() => [null, null]);
  for (const [from, baseline, tolerance] of history.baselines) kept.fill([baseline, tolerance], from);
  if (kept.every(([baseline]) => typeof baseline !== "number")) return [];
  const x = nights.map((night) => night.started);
  const line = (y, more) => ({ type: "scatter", mode: "lines", x, y, hoverinfo: "skip", line: { width: 0, shape: "hv" }, showlegend: false, ...more });
  const edge = (sign) => kept.map(([baseline, tolerance]) => (typeof baseline === "number" && tolerance ? (baseline * (1 + tolerance) ** sign) / factor : null));
  const baseline = kept.map(([value]) => (typeof value === "number" ? value / factor : null));
  return [
    line(edge(-1)),
    line(edge(1), { fill: "tonexty", fillcolor: colour.band }),
    line(baseline, { name: "baseline", showlegend: true, line: { width: 1.5, color: colour.good, shape: "hv" } }),
  ];
}

function upright(x, colour, dash) {
  return { type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour, width: 1.5, dash }, layer: "below" };
}

function changeMarks(cell, nights, colour) {
  const marks = { shapes: [], annotations: [] };
  for (const change of cell.history.changes) {
    const night = nights.find((one) => one.number === change.run);
    if (!night) continue;
    const tint = change.worse ? colour.bad : colour.good;
    marks.shapes.push(upright(night.started, tint, "solid"));
    marks.annotations.push({ x: night.started, yref: "paper", y: 1, yanchor: "bottom", showarrow: false, text: `${change.kind} ${showChange(change.after / change.before - 1)}`, font: { color: tint, size: 12 } });
  }
  return marks;
}

function versionMarks(nights, colour) {
  const marked = nights.filter((night) => night.differs.some((one) => !UNMARKED_VERSIONS.includes(one.name)));
  const labels = marked.length > MOST_MARKS ? [] : marked;
  return {
    shapes: marked.map((night) => upright(night.started, colour.soft, "dot")),
    annotations: labels.map((night) => ({
      x: night.started, yref: "paper", y: 0.02, yanchor: "bottom", xanchor: "right", textangle: -90, showarrow: false, font: { color: colour.soft, size: 11 },
      text: plain(night.differs.filter((one) => !UNMARKED_VERSIONS.includes(one.name)).slice(0, 2).map((one) => one.text).join(", ")),
    })),
  };
}
