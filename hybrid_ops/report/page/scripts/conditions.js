// What the machine showed while each launch ran, over the time of the run.
const CONDITIONS = [
  ["foreign_cpu_share", "Load of other processes", "share of all processors (%)", "Other programs take time from the engine: low is good."],
  ["least_memory_available_share", "Memory that was free at the least", "share of the memory (%)", "Near 0 the machine begins to swap: high is good."],
  ["most_memory_pressure_percent", "Time in which tasks waited for memory", "share of 10 s (%)", "Anything but 0 slows an engine down."],
  ["least_sm_clock_mhz", "Lowest clock of the GPU", "SM clock (MHz)", "A launch far below the others ran on a GPU that was held down."],
  ["least_memory_clock_mhz", "Lowest clock of the GPU's memory", "memory clock (MHz)", "It should be the same in every launch."],
  ["mean_power_w", "Power of the GPU", "mean power (W)", "At the power limit the GPU lowers its own clocks."],
  ["most_temperature_c", "Highest temperature of the GPU", "temperature (°C)", "A GPU that grows hot lowers its clocks."],
  ["most_foreign_processes", "Other processes on the GPU", "processes", "Anything but 0 shares the GPU with the engine."],
  ["slowdown_share", "Time in which the GPU's clocks were held down", "share of the samples (%)", "Heat or the hardware held the clocks down: 0 is good."],
];

function conditionFigures() {
  const launches = dataOf("run-data").conditions;
  const seen = CONDITIONS.filter(([name]) => launches.some((launch) => launch.seen[name] !== undefined));
  const figures = seen.map(([name, title, unit, how]) => figure(
    title, `Each dot is one launch. ${how} A red cross is a launch that broke a limit, so its times do not count.`,
    (colour) => conditionChart(launches.filter((launch) => launch.seen[name] !== undefined), name, unit, colour),
  ));
  return [element("div", { className: "charts" }, ...figures)];
}

function conditionChart(launches, name, unit, colour) {
  const engines = [...new Set(launches.map((launch) => launch.engine))];
  const traces = engines.map((engine) => {
    const own = launches.filter((launch) => launch.engine === engine);
    return {
      type: "scatter", mode: "markers", name: plain(engine), x: own.map((launch) => launch.started), y: own.map((launch) => launch.seen[name]),
      marker: { size: 9, color: own.map((launch) => (launch.violations.length ? colour.bad : colourOf(engines, engine))), symbol: own.map((launch) => (launch.violations.length ? "x" : "circle")) },
      text: own.map((launch) => [`${launch.engine}, launch ${launch.launch}`, `${show(launch.seen[name])} ${unit}`, ...launch.violations].map(plain).join("<br>")),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  return { traces, layout: { height: 280, showlegend: engines.length > 1 && engines.length <= 8, xaxis: axis("start of the launch (UTC)", colour, { type: "date" }), yaxis: axis(unit, colour, { rangemode: "tozero" }) } };
}
