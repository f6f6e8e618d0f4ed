// Draws charts with plotly.js, which is unpacked and read only when the first chart is drawn.
let plotly = null;
const drawn = new Map();

function loadPlotly() {
  plotly ??= (async () => {
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (letter) => letter.charCodeAt(0));
    const source = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    document.head.append(element("script", { textContent: await new Response(source).text() }));
    return window.Plotly;
  })();
  return plotly;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "ink", "soft", "line", "bad", "warn", "good", "news", "band"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

// Okabe and Ito's palette without its black and grey, which the colour-blind can tell apart.
const PALETTE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6BB1", "#B8A800"];
const colourOf = (names, name) => PALETTE[names.indexOf(name) % PALETTE.length];

function axis(title, colour, more = {}) {
  return {
    title: { text: plain(title), standoff: 8 }, color: colour.soft, gridcolor: colour.line, zeroline: false,
    linecolor: colour.line, automargin: true, exponentformat: "SI", ...more,
  };
}

// A figure: what is seen, how to read it, and a chart that `make(colours)` gives as {traces, layout}.
function figure(title, how, make, properties = {}) {
  const chart = element("div", { className: "chart" });
  const caption = element("figcaption", {}, element("h4", { textContent: title }), element("p", { textContent: how }));
  drawn.set(chart, make);
  return element("figure", properties, caption, chart);
}

async function draw(chart) {
  const library = await loadPlotly();
  const colour = colours();
  const { traces, layout } = drawn.get(chart)(colour);
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour.ink, size: 12 }, height: 320,
    margin: { l: 56, r: 16, t: 16, b: 44 }, hovermode: "closest", legend: { orientation: "h", y: -0.24 },
    hoverlabel: { bgcolor: colour.paper, bordercolor: colour.soft, font: { color: colour.ink }, align: "left" },
  };
  await library.react(chart, traces, { ...base, ...layout }, { responsive: true, displayModeBar: false });
  chart.dataset.drawn = "true";
}

// Charts are drawn when they come into view.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    watcher.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "200px" });

function watch(place) {
  for (const chart of place.querySelectorAll(".chart")) watcher.observe(chart);
}

function forget(place) {
  for (const chart of place.querySelectorAll(".chart")) {
    watcher.unobserve(chart);
    drawn.delete(chart);
    if (chart.dataset.drawn) window.Plotly.purge(chart);
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of drawn.keys()) if (chart.dataset.drawn) draw(chart);
});
