// Draws the night and the last 30 s with Plotly, once it has been loaded; see page.js for the data.
"use strict";
window.charts = (() => {
  const ROWS = { W: 4, R: 3, 1: 2, 2: 1, 3: 0 };
  const GRADES = { g: 3, f: 2, p: 1, o: 0 };
  const QUALITY = [[0, "#b3261e"], [0.25, "#b3261e"], [0.25, "#e07b39"], [0.5, "#e07b39"], [0.5, "#d9c94a"],
    [0.75, "#d9c94a"], [0.75, "#3f7f5c"], [1, "#3f7f5c"]];
  const STACK = ["N3", "N2", "N1", "R", "W"];
  const BASE = {
    paper_bgcolor: "#12171f", plot_bgcolor: "#0e1219", font: { color: "#8b96a3", size: 11 }, showlegend: false,
    dragmode: false, hovermode: false,
  };
  const CONFIG = { displayModeBar: false, responsive: true, staticPlot: true };
  const GRID = { gridcolor: "#1c232d", zeroline: false, fixedrange: true };
  const INFERNO = [[0, "#000004"], [0.2, "#33095f"], [0.4, "#852167"], [0.6, "#cf4446"], [0.8, "#fb9b06"], [1, "#fcffa4"]];
  let drawn = "";
  let asked = false;

  const stamp = (s) => {
    const d = new Date(s * 1000);
    return new Date(d.getTime() - d.getTimezoneOffset() * 60000).toISOString().slice(0, 19).replace("T", " ");
  };

  function eeg(one) {
    if (!one.eeg) return;
    const y = Array.from(one.eeg, (v) => (v === -32768 ? null : v / 10));
    const x = y.map((_, k) => k / 100 - y.length / 100);
    const top = y.reduce((most, v) => Math.max(most, Math.abs(v || 0)), 0);
    const limit = [50, 100, 200, 400, 800, 1600].find((step) => step >= top) || Math.ceil(top / 1000) * 1000;
    const ticks = [-limit, -limit / 2, 0, limit / 2, limit];
    Plotly.react("eeg", [{ x, y, mode: "lines", line: { color: "#8fd0a5", width: 1 }, connectgaps: false }], {
      ...BASE, margin: { l: 52, r: 12, t: 8, b: 30 },
      xaxis: { ...GRID, ticksuffix: " s", dtick: 5, range: [-30, 0] },
      yaxis: { ...GRID, range: [-limit, limit], tickvals: ticks, ticktext: ticks.map((v) => `${v} µV`) },
    }, CONFIG);
  }

  function night(one) {
    const n = one.labels.length;
    const key = `${one.name} ${one.session} ${n} ${at("night").clientWidth}`;
    if (!n || key === drawn) return;
    drawn = key;
    const edges = Array.from({ length: n + 1 }, (_, k) => stamp(one.started + 30 * k));
    const middle = Array.from({ length: n }, (_, k) => stamp(one.started + 30 * k + 15));
    const rows = Array.from(one.labels, (c) => (c in ROWS ? ROWS[c] : null));
    const traces = [
      { x: edges, y: rows.concat(rows.slice(-1)), mode: "lines", line: { shape: "hv", color: "#5b6675", width: 1 } },
      ...Object.keys(ROWS).map((code) => ({
        x: rows.flatMap((_, k) => (one.labels[k] === code ? [edges[k], edges[k + 1], null] : [])),
        y: rows.flatMap((row, k) => (one.labels[k] === code ? [row, row, null] : [])),
        mode: "lines", line: { color: COLOURS[NAMES[code]], width: 4 }, connectgaps: false,
      })),
      ...STACK.map((name) => ({
        x: edges, y: one.density.map((d) => d[ORDER.indexOf(name)] / 255).concat([0]), stackgroup: "p", mode: "lines",
        line: { width: 0, shape: "hv" }, fillcolor: COLOURS[name], yaxis: "y2",
      })),
      {
        type: "heatmap", x: middle, y: Array.from({ length: BINS }, (_, k) => 0.586 + 0.78125 * k), yaxis: "y3",
        z: Array.from({ length: BINS }, (_, k) => one.spectrum.map((column) => column[k] || null)),
        colorscale: INFERNO, zmin: 70, zmax: 185, showscale: false, hoverinfo: "skip",
      },
      {
        type: "heatmap", x: middle, y: [0], z: [Array.from(one.grades, (c) => (c in GRADES ? GRADES[c] : null))],
        colorscale: QUALITY, zmin: -0.5, zmax: 3.5, showscale: false, yaxis: "y4", hoverinfo: "skip",
      },
    ];
    Plotly.react("night", traces, {
      ...BASE, margin: { l: 52, r: 12, t: 8, b: 28 },
      xaxis: { ...GRID, range: [edges[0], edges[Math.max(n, 20)] || stamp(one.started + 600)], anchor: "y4", tickformat: "%H:%M",
        hoverformat: "%H:%M" },
      yaxis: { ...GRID, domain: [0.68, 1], range: [-0.5, 4.5], tickvals: [4, 3, 2, 1, 0], ticktext: ["W", "R", "N1", "N2", "N3"] },
      yaxis2: { ...GRID, domain: [0.42, 0.65], range: [0, 1], tickvals: [0, 0.5, 1], ticktext: ["0", "50 %", "100 %"] },
      yaxis3: { ...GRID, domain: [0.09, 0.39], range: [0.2, 30], tickvals: [5, 15, 25], ticktext: ["5 Hz", "15 Hz", "25 Hz"] },
      yaxis4: { ...GRID, domain: [0, 0.05], tickvals: [0], ticktext: ["quality"] },
    }, CONFIG);
  }

  // Plotly is large: it is fetched after the stage has been painted, so that the stage need not wait for it.
  function load() {
    asked = true;
    const script = document.createElement("script");
    script.src = "plotly.js";
    script.onload = () => show();
    script.onerror = () => { asked = false; };
    requestAnimationFrame(() => setTimeout(() => document.head.append(script)));
  }

  function draw(one) {
    if (window.Plotly) {
      eeg(one);
      night(one);
    } else if (!asked) {
      load();
    }
  }
  return { draw };
})();
