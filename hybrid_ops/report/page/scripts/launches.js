// The launches of a cell: dots beside its baseline, and the pairs of a comparison of two arms.
const better = (cell) => ({ higher: "Higher is better.", lower: "Lower is better." })[cell.direction] ?? "";

// Places beside each other around `centre`.
const spread = (centre, count) => Array.from({ length: count }, (_, place) => centre + (place - (count - 1) / 2) * Math.min(0.12, 0.7 / count));

function dots(x, values, name, hover, marker) {
  return {
    type: "scatter", mode: "markers", x, y: values, name, text: hover, hovertemplate: "%{text}<extra></extra>",
    marker: { size: 10, ...marker }, showlegend: false,
  };
}

function level(y, colour, dash = "solid") {
  return { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: colour, width: 1.5, dash } };
}

function band(low, high, colour) {
  return { type: "rect", xref: "paper", x0: 0, x1: 1, y0: low, y1: high, fillcolor: colour, line: { width: 0 }, layer: "below" };
}

function launchesFigure(cell) {
  const [before, now] = cell.arms ? ["arm a", "arm b"] : ["baseline", "this run"];
  const told = cell.baseline === undefined
    ? "There is no baseline to compare them with."
    : `The line is the ${cell.arms ? "mean of arm a" : "baseline"}${cell.tolerance ? ", the band what the tolerance allows" : ""}.`;
  const whisker = cell.interval ? " The bar at the right is the confidence interval of the mean: a verdict needs it wholly on one side of the band's edge." : "";
  return figure(
    `${cell.metric} of each launch`,
    `Each dot is one fresh start of the engine. ${told}${whisker} ${better(cell)}`,
    (colour) => launchesChart(cell, before, now, colour),
  );
}

function launchesChart(cell, before, now, colour) {
  const known = [...cell.launches, ...(cell.baseline_launches ?? []), cell.baseline ?? cell.launches[0]];
  const { factor, unit } = scaleOf(cell.unit, known);
  const scaled = (values) => values.map((value) => value / factor);
  const hover = (values, where) => values.map((value, place) => `${where}, launch ${place + 1}: ${plain(show(value, cell.unit))}`);
  const columns = [];
  const traces = [];
  const column = (label) => columns.push(label) - 1;
  if (cell.baseline_launches) {
    const at = column(`${before}<br>${cell.baseline_launches.length} launches`);
    traces.push(dots(spread(at, cell.baseline_launches.length), scaled(cell.baseline_launches), before, hover(cell.baseline_launches, before), { color: colour.paper, line: { color: colour.soft, width: 2 } }));
  }
  const at = column(`${now}<br>${cell.launches.length} launch${cell.launches.length === 1 ? "" : "es"}`);
  traces.push(dots(spread(at, cell.launches.length), scaled(cell.launches), now, hover(cell.launches, now), { color: colour.news }));
  if (cell.interval && typeof cell.baseline === "number") {
    const [low, high] = cell.interval.map((log) => (cell.baseline * Math.exp(log)) / factor);
    const mean = cell.value / factor;
    const text = `mean ${plain(show(cell.value, cell.unit))}, interval ${plain(show(low * factor, cell.unit))} to ${plain(show(high * factor, cell.unit))}`;
    traces.push({
      ...dots([column("mean and<br>interval")], [mean], "mean", [text], { color: colour.ink, symbol: "diamond" }),
      error_y: { type: "data", symmetric: false, array: [high - mean], arrayminus: [mean - low], color: colour.ink, thickness: 2, width: 8 },
    });
  }
  return { traces, layout: { ...besideBaseline(cell, factor, colour), xaxis: axis("", colour, { tickvals: columns.map((_, place) => place), ticktext: columns, range: [-0.6, columns.length - 0.4], showgrid: false }), yaxis: axis(unit ? `${cell.metric} (${unit})` : cell.metric, colour) } };
}

function besideBaseline(cell, factor, colour) {
  if (typeof cell.baseline !== "number") return {};
  const baseline = cell.baseline / factor;
  const shapes = [level(baseline, colour.good)];
  if (cell.tolerance) shapes.push(band(baseline / (1 + cell.tolerance), baseline * (1 + cell.tolerance), colour.band));
  const label = cell.tolerance ? `baseline ± ${(100 * cell.tolerance).toFixed(1)} %` : "baseline";
  const annotations = [{ xref: "paper", x: 1, xanchor: "right", y: baseline, yanchor: "bottom", showarrow: false, text: cell.arms ? "arm a" : label, font: { color: colour.good, size: 11 } }];
  return { shapes, annotations };
}

function pairsFigure(cell) {
  return figure(
    `${cell.metric} of arm b beside arm a, pair by pair`,
    `Each dot is one pair of launches that ran side by side; 0 means that both arms were alike. The band is what the tolerance allows, the bar at the right the confidence interval of the mean. ${better(cell)}`,
    (colour) => pairsChart(cell, colour),
  );
}

function pairsChart(cell, colour) {
  const change = (log) => 100 * Math.expm1(log);
  const changes = cell.log_ratios.map(change);
  const x = changes.map((_, place) => place + 1);
  const traces = [dots(x, changes, "pairs", changes.map((value, place) => `pair ${place + 1}: ${showChange(value / 100)}`), { color: colour.news })];
  const end = changes.length + 1;
  if (cell.interval) {
    const mean = change(cell.log_ratios.reduce((sum, log) => sum + log, 0) / changes.length);
    const [low, high] = cell.interval.map(change);
    traces.push({
      ...dots([end], [mean], "mean", [`mean ${showChange(mean / 100)}, interval ${showChange(low / 100)} to ${showChange(high / 100)}`], { color: colour.ink, symbol: "diamond" }),
      error_y: { type: "data", symmetric: false, array: [high - mean], arrayminus: [mean - low], color: colour.ink, thickness: 2, width: 8 },
    });
  }
  const shapes = [level(0, colour.good)];
  if (cell.tolerance) shapes.push(band(change(-Math.log1p(cell.tolerance)), change(Math.log1p(cell.tolerance)), colour.band));
  const ticks = { tickvals: [...x, end], ticktext: [...x.map(String), "mean"], range: [0.4, end + 0.6], showgrid: false };
  return { traces, layout: { shapes, xaxis: axis("launch pair", colour, ticks), yaxis: axis("change from arm a to arm b (%)", colour) } };
}
