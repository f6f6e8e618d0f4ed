// The roofline, and what the caches hold.
const modelOf = (name) => name.split("/")[0];

function rooflineFigures() {
  const { points, flops, bandwidth, source } = dataOf("run-data").roofline;
  const roof = flops
    ? `The lines are the most that the device allows (peaks ${source}): left of a bend its memory is the limit, right of it its arithmetic. The nearer to the line, the better.`
    : "This run does not know the device's peaks, so there is no roof; a cell such as mfu has them measured.";
  return [figure(
    "What prefill and decode reach, beside what the device allows",
    `Each point is one phase of one case: circles are prefill, squares decode. ${roof}`,
    (colour) => rooflineChart(points, flops ?? {}, bandwidth, colour),
    { className: "wide" },
  )];
}

function rooflineChart(points, flops, bandwidth, colour) {
  const models = [...new Set(points.map((point) => modelOf(point.case)))];
  const phases = { prefill: "circle", decode: "square" };
  const traces = roofs(points, flops, bandwidth, colour);
  for (const model of models) {
    for (const [phase, symbol] of Object.entries(phases)) {
      const own = points.filter((point) => modelOf(point.case) === model && point.phase === phase);
      if (!own.length) continue;
      traces.push({
        type: "scatter", mode: "markers", name: plain(`${model} ${phase}`), x: own.map((point) => point.intensity), y: own.map((point) => point.speed),
        marker: { size: 11, symbol, color: colourOf(models, model), line: { width: 1, color: colour.paper } },
        text: own.map((point) => reachedText(point, flops, bandwidth)), hovertemplate: "%{text}<extra></extra>",
      });
    }
  }
  const log = { type: "log", dtick: 1, minor: { showgrid: false } };
  return { traces, layout: { height: 460, xaxis: axis("FLOPs per byte moved (arithmetic intensity)", colour, log), yaxis: axis("FLOP/s of one device", colour, log) } };
}

function roofs(points, flops, bandwidth, colour) {
  return Object.entries(flops).map(([dtype, peak], place) => {
    const bend = peak / bandwidth;
    const seen = [bend, ...points.map((point) => point.intensity)];
    const x = [Math.min(...seen) / 4, bend, Math.max(...seen) * 4];
    return {
      type: "scatter", mode: "lines", name: plain(`most in ${dtype}`), x, y: x.map((intensity) => Math.min(intensity * bandwidth, peak)),
      line: { color: colour.ink, width: 2, dash: place ? "dash" : "solid" }, hovertemplate: `${plain(dtype)}: %{y:.3s}FLOP/s at %{x:.3g} FLOP/B<extra></extra>`,
    };
  });
}

function reachedText(point, flops, bandwidth) {
  const lines = [`${point.case}, ${point.phase}`, `${show(point.speed / 1e9)} GFLOP/s at ${show(point.intensity)} FLOP/B`];
  for (const [dtype, peak] of Object.entries(flops)) {
    const most = Math.min(point.intensity * bandwidth, peak);
    lines.push(`${((100 * point.speed) / most).toFixed(1)} % of the most in ${dtype}`);
  }
  return lines.map(plain).join("<br>");
}

function cacheFigures() {
  const { lengths, layers } = dataOf("run-data");
  const figures = [];
  if (Object.keys(lengths.concurrency).length) {
    figures.push(figure("Sequences that fit into the cache at once", "One line a case, by the length of a sequence. A flatter line keeps more long sequences running; both axes are logarithmic.", (colour) => lengthChart(lengths.concurrency, "sequences at once", colour)));
  }
  if (Object.keys(lengths.bytes).length) {
    figures.push(figure("Cache bytes that one sequence takes", "One line a case, by the length of a sequence. A flat line means that states or windows do not grow with it; both axes are logarithmic.", (colour) => lengthChart(lengths.bytes, "bytes (B)", colour)));
  }
  if (Object.keys(layers).length) {
    figures.push(figure("What the layers of each engine keep in the cache", "One bar an engine. Full attention keeps every token, a sliding window the newest ones, and a state has one size for any length.", (colour) => layersChart(layers, colour), { className: "wide" }));
  }
  return figures;
}

function lengthChart(cases, title, colour) {
  const names = Object.keys(cases);
  const traces = names.map((name) => ({
    type: "scatter", mode: "lines+markers", name: plain(name), x: cases[name].map(([length]) => length), y: cases[name].map(([, value]) => value),
    line: { color: colourOf(names, name) }, hovertemplate: "%{x} tokens: %{y:.5~g}<extra>%{fullData.name}</extra>",
  }));
  const lengths = [...new Set(names.flatMap((name) => cases[name].map(([length]) => length)))].sort((a, b) => a - b);
  return { traces, layout: { height: 360, showlegend: true, xaxis: axis("tokens of a sequence", colour, { type: "log", tickvals: lengths, ticktext: lengths.map(String) }), yaxis: axis(title, colour, { type: "log" }) } };
}

function layersChart(engines, colour) {
  const names = Object.keys(engines).reverse();
  const kinds = [...new Set(names.flatMap((name) => Object.keys(engines[name])))].sort();
  const traces = kinds.map((kind) => ({
    type: "bar", orientation: "h", name: plain(kind), y: names.map(plain), x: names.map((name) => engines[name][kind] ?? 0),
    marker: { color: colourOf(kinds, kind) }, hovertemplate: "%{y}: %{x} layers<extra>%{fullData.name}</extra>",
  }));
  return { traces, layout: { height: 140 + 26 * names.length, barmode: "stack", showlegend: true, legend: { orientation: "h", y: 1, yanchor: "bottom" }, xaxis: axis("layers with a cache", colour, { dtick: names.length > 20 ? undefined : 1 }), yaxis: axis("", colour) } };
}
