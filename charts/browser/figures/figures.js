// Figures that stand on the page already are given their newest data. Streamlit itself would take each of them away and
// draw another, with the zoom gone and the page jumping. `Plotly` is the library that it has loaded for them.

export default function ({data}) {
  for (const [key, {x, y, span, range, words}] of Object.entries(data)) {
    const plot = document.querySelector(`.st-key-${key} .js-plotly-plot`);
    // One that is still being drawn has nearly the same data; the next message finds it.
    if (!window.Plotly || plot?.data?.length !== x.length) continue;
    plot.data.forEach((trace, i) => Object.assign(trace, {x: x[i], y: y[i]}));
    // Where the user has zoomed in, the range of time is theirs, and this has no effect until they zoom out.
    plot.layout.xaxis.autorangeoptions = {include: span};
    plot.layout.yaxis.range = range;
    window.Plotly.redraw(plot);
    plot.closest("[role=figure]")?.setAttribute("aria-label", words);
  }
}
