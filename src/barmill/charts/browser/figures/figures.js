// Updates existing figures on the page with new data. Streamlit would remove and redraw them, which resets the zoom and
// makes the page jump. `Plotly` is the library that Streamlit has loaded for them.

export default function ({data}) {
  for (const [key, {x, y, span, range, alt_text}] of Object.entries(data)) {
    const plot = document.querySelector(`.st-key-${key} .js-plotly-plot`);
    // A figure that is still being drawn already has almost the same data; the next message updates it.
    if (!window.Plotly || plot?.data?.length !== x.length) continue;
    plot.data.forEach((trace, i) => Object.assign(trace, {x: x[i], y: y[i]}));
    // If the user has zoomed in, the time range stays as chosen; this setting only applies after zooming out.
    plot.layout.xaxis.autorangeoptions = {include: span};
    plot.layout.yaxis.range = range;
    window.Plotly.redraw(plot);
    plot.closest("[role=figure]")?.setAttribute("aria-label", alt_text);
  }
}
