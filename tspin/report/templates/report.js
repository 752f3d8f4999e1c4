"use strict";
const plots = [...document.querySelectorAll(".plot")];
for (const plot of plots) {
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}
// Paper has a width of its own, and nothing on it can be unfolded.
window.addEventListener("beforeprint", () => {
  for (const sample of document.querySelectorAll("details.sample")) sample.open = true;
  for (const plot of plots) Plotly.relayout(plot, { width: 680 });
});
window.addEventListener("afterprint", () => {
  for (const plot of plots) Plotly.relayout(plot, { width: null, autosize: true });
});
