// What the page does once it is there.
for (const kind of ["input", "change"]) byId("filters").addEventListener(kind, filter);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("table").addEventListener("click", (event) => {
  const tr = event.target.closest("tr.cell");
  if (tr && !getSelection().toString()) toggle(rows[tr.dataset.cell]);
});
for (const button of document.querySelectorAll("[data-choose]")) {
  button.addEventListener("click", () => {
    const select = byId("filter-verdict");
    select.value = select.value === button.dataset.choose ? "" : button.dataset.choose;
    filter();
    byId("cells").scrollIntoView();
  });
}
const FIGURES = { roofline: rooflineFigures, caches: cacheFigures, conditions: conditionFigures };
for (const section of document.querySelectorAll("[data-charts]")) {
  section.append(...FIGURES[section.dataset.charts]());
  watch(section);
}
// A browser that keeps what was typed keeps its filters, too.
filter();
