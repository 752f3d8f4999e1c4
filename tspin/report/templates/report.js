"use strict";
const plots = [...document.querySelectorAll(".plot")];
const left = [...plots];
function drawNext() {
  const plot = left.shift();
  const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
  Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}
// Each in a task of its own: the page has loaded and can be scrolled before the last is drawn.
function drawRest() {
  if (left.length === 0) return;
  drawNext();
  setTimeout(drawRest);
}
setTimeout(drawRest);
// Paper has a width of its own, and nothing on it can be unfolded.
window.addEventListener("beforeprint", () => {
  while (left.length > 0) drawNext();
  for (const sample of document.querySelectorAll("details.sample")) sample.open = true;
  for (const plot of plots) Plotly.relayout(plot, { width: 680 });
});
window.addEventListener("afterprint", () => {
  for (const plot of plots) Plotly.relayout(plot, { width: null, autosize: true });
});
