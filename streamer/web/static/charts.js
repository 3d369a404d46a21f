// Draws the night and the last 30 s with all traces, on two canvases. page.js keeps the data.
"use strict";
window.charts = (() => {
  const ROWS = { W: 0, R: 1, 1: 2, 2: 3, 3: 4 }; // from the top
  const ROW_NAMES = ["W", "R", "N1", "N2", "N3"];
  const GRADES = { g: "#3f7f5c", f: "#d9c94a", p: "#e07b39", o: "#b3261e" };
  const STACK = ["N3", "N2", "N1", "R", "W"]; // from the bottom
  const GROUND = "#0e1219", GRID = "#1c232d", TEXT = "#8b96a3", STEM = "#5b6675", TRACE = "#8fd0a5";
  const FONT = "11px system-ui, sans-serif", LINE = 14; // px
  const LEFT = 52, RIGHT = 12, TOP = 8, BOTTOM = 26; // px
  const APART = 10; // px, smallest distance between two labels
  const LEAST_EPOCHS = 20; // shortest time axis of the night
  const MINUTES = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440, 2880, 7200, 14400];
  const LIMITS = [10, 20, 30, 50, 80, 100, 150, 200, 300, 400, 600, 800, 1200, 1600]; // µV
  const LEAST = { staged: 50, eeg: 50, eog: 100, emg: 20, ecg: 400 }; // µV, smallest scale of a trace
  const INK = { eog: "#e3c46b", emg: "#d58fb8", ecg: "#e8925a", eeg: "#8fd0a5", plain: "#9fb6d8" };
  const MARKS = { trigger: "#ffb454", marker: "#7fb4e6", alarm: "#ff8a80", mark: "#e6edf3" };
  const MISSING = "#e8925a";
  const LOST = -32768; // stands for a lost sample
  const STAGED = 214, OTHER = 84, BETWEEN = 8; // px: height with one trace, of each further one, and between two
  const HZ = 30, FIRST_HZ = 0.2;
  const FAINT = 70, BRIGHT = 185; // bytes of a spectrum that get the darkest and the brightest colour
  const INFERNO = [[0, 0, 4], [51, 9, 95], [133, 33, 103], [207, 68, 70], [251, 155, 6], [252, 255, 164]];
  const written = {}; // chart -> all its labels, each with text and box in px; for the tests
  let drawn = ""; // key of the night that is drawn

  // Prepares a canvas of the element's size at the screen's resolution; coordinates are CSS pixels.
  function sheet(id) {
    const box = at(id);
    const canvas = box.firstElementChild || box.appendChild(document.createElement("canvas"));
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [box.clientWidth, box.clientHeight];
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = FONT;
    written[id] = [];
    return { id, pen, scale, left: LEFT, right: width - RIGHT, top: TOP, bottom: height - BOTTOM };
  }

  const part = (on, from, to) => {
    const height = on.bottom - on.top;
    const [top, bottom] = [Math.round(on.top + from * height), Math.round(on.top + to * height)];
    ground(on, top, bottom);
    return { top, bottom };
  };

  function ground(on, top, bottom) {
    on.pen.fillStyle = GROUND;
    on.pen.fillRect(on.left, top, on.right - on.left, bottom - top);
  }

  function label(on, text, x, y, align) {
    const width = on.pen.measureText(text).width;
    write(on, text, align === "right" ? x - width : x - width / 2, y, TEXT);
  }

  function write(on, text, left, y, colour) {
    on.pen.fillStyle = colour;
    on.pen.textBaseline = "middle";
    on.pen.textAlign = "left";
    on.pen.fillText(text, left, y);
    const right = left + on.pen.measureText(text).width;
    written[on.id].push({ text, left, right, top: y - LINE / 2, bottom: y + LINE / 2 });
  }

  function rule(on, x, y, toX, toY) {
    on.pen.strokeStyle = GRID;
    on.pen.lineWidth = 1;
    on.pen.beginPath();
    on.pen.moveTo(Math.round(x) + 0.5, Math.round(y) + 0.5);
    on.pen.lineTo(Math.round(toX) + 0.5, Math.round(toY) + 0.5);
    on.pen.stroke();
  }

  // Draws labels at the left, each with its line; skips a label that would touch the one before.
  function levels(on, named, top = on.top, bottom = on.bottom) {
    let last = -Infinity;
    for (const [text, y] of named) {
      rule(on, on.left, y, on.right, y);
      if (Math.abs(y - last) < LINE) continue;
      label(on, text, on.left - 6, Math.min(Math.max(y, top + LINE / 2), bottom - LINE / 2), "right");
      last = y;
    }
  }

  // Draws labels below the chart, as many as fit; calls `mark` with the x of each.
  function below(on, ticks, mark) {
    let last = -Infinity;
    for (const [text, x] of ticks) {
      const half = on.pen.measureText(text).width / 2;
      const place = Math.min(x, on.right + RIGHT - half - 1);
      if (place - half < last + APART) continue;
      mark(x);
      label(on, text, place, on.bottom + BOTTOM / 2, "center");
      last = place + half;
    }
  }

  // Draws the last 30 s: the staged trace, below it the other channels, and marks through all of them.
  function eeg(one) {
    const marks = inSight(one);
    const others = one.traces || [];
    const tall = (trace) => trace.missing ? LINE + 6 : OTHER;
    at("eeg").style.height = `${others.reduce((sum, trace) => sum + BETWEEN + tall(trace), STAGED)}px`;
    const on = sheet("eeg");
    const x = (s) => on.right + s / 30 * (on.right - on.left);
    const panels = [{ ...staged(one), label: others.length ? one.channel : "", top: on.top + LINE }]; // above: marks' names
    panels[0].bottom = on.top + STAGED - TOP - BOTTOM;
    for (const trace of others) {
      const top = panels[panels.length - 1].bottom + BETWEEN;
      panels.push({ ...trace, top, bottom: top + tall(trace) });
    }
    for (const { top, bottom } of panels) ground(on, top, bottom);
    below(on, [-30, -25, -20, -15, -10, -5, 0].map((s) => [`${s} s`, x(s)]), (place) => {
      for (const { top, bottom } of panels) rule(on, place, top, place, bottom);
    });
    drawMarks(on, marks, x); // behind the traces
    for (const panel of panels) trace(on, panel, x);
  }

  // The staged trace in the form of the others; without numbers while there is none.
  const staged = (one) => ({ kind: "staged", unit: "µV", offset: 0, step: 0.1, numbers: one.eeg || [] });

  // A trace's values in its unit, 100 a second; NaN where samples were lost.
  const decoded = (trace) => Array.from(trace.numbers, (n) => n === LOST ? NaN : trace.offset + trace.step * n);

  // The range of a trace's panel in its unit; symmetric for a voltage.
  function range(kind, values) {
    let [least, most] = [Infinity, -Infinity];
    for (const v of values) if (v < least || v > most) [least, most] = [Math.min(least, v), Math.max(most, v)];
    if (least > most) [least, most] = [0, 0];
    if (kind === "plain") {
      const room = (most - least) * 0.05 || Math.abs(most) * 0.05 || 1;
      return [least - room, most + room];
    }
    const peak = Math.max(-least, most);
    const limit = LIMITS.find((step) => step >= Math.max(peak, LEAST[kind] || 0)) || Math.ceil(peak / 1000) * 1000;
    return [-limit, limit];
  }

  // Draws one trace in its panel, with scale and name.
  function trace(on, panel, x) {
    const { top, bottom, label: name, kind, unit } = panel;
    const place = [on.left + 6, top + LINE / 2 + 2];
    if (panel.missing) return note(on, `${name}: no such channel in this stream`, ...place, MISSING);
    const values = decoded(panel);
    const there = values.filter((v) => !Number.isNaN(v));
    const [least, most] = range(kind, there);
    const y = (v) => bottom - (v - least) / (most - least) * (bottom - top);
    const steps = bottom - top > 8 * LINE ? 4 : 2;
    const ticks = Array.from({ length: steps + 1 }, (_, k) => most + (least - most) * k / steps);
    levels(on, ticks.map((v) => [tick(v, most - least, unit), y(v)]), top, bottom);
    const pen = on.pen;
    pen.strokeStyle = INK[kind] || TRACE;
    pen.lineWidth = 1;
    pen.beginPath();
    let gone = true;
    values.forEach((v, k) => {
      if (!Number.isNaN(v)) pen[gone ? "moveTo" : "lineTo"](x((k - values.length) / 100), y(v));
      gone = Number.isNaN(v);
    });
    pen.stroke();
    const said = unit && unit !== "µV" ? `${name}, ${unit}` : name;
    if (name) note(on, there.length ? said : `${said}: no samples`, ...place, TEXT);
  }

  // The text of a scale's number, with the unit if it is a voltage.
  function tick(v, span, unit) {
    if (unit === "µV" && span >= 2000) return `${Number((v / 1000).toFixed(1))} mV`;
    const text = String(Number(v.toFixed(span >= 8 ? 0 : span >= 0.8 ? 1 : 3)));
    return unit === "µV" ? `${text} µV` : text;
  }

  // Writes text into a panel on a dark ground, cut to the available width.
  function note(on, text, x, y, colour) {
    const pen = on.pen;
    let shown = text;
    while (shown.length > 1 && pen.measureText(shown).width > on.right - x - 4) shown = `${shown.slice(0, -2)}…`;
    const width = pen.measureText(shown).width;
    pen.fillStyle = GROUND;
    pen.globalAlpha = 0.75;
    pen.fillRect(x - 3, y - LINE / 2, width + 6, LINE);
    pen.globalAlpha = 1;
    write(on, shown, x, y, colour);
  }

  // The marks in the 30 s that are shown, with their time in seconds relative to the end.
  function inSight(one) {
    if (one.end_s === undefined) return [];
    return one.events.filter((event) => event.mark !== undefined && event.at_s >= one.end_s - 30 && event.at_s <= one.end_s)
      .map((event) => ({ s: event.at_s - one.end_s, name: event.mark, kind: event.event }));
  }

  // Draws a line through all traces for each mark, with its name above if there is room.
  function drawMarks(on, marks, x) {
    let last = on.left - APART;
    for (const mark of marks.sort((one, other) => one.s - other.s)) {
      const colour = MARKS[mark.kind] || MARKS.mark;
      const pen = on.pen;
      pen.strokeStyle = colour;
      pen.lineWidth = 1;
      pen.setLineDash([4, 3]);
      pen.beginPath();
      pen.moveTo(Math.round(x(mark.s)) + 0.5, on.top + LINE);
      pen.lineTo(Math.round(x(mark.s)) + 0.5, on.bottom);
      pen.stroke();
      pen.setLineDash([]);
      const width = pen.measureText(mark.name).width;
      const left = Math.min(Math.max(x(mark.s) - width / 2, on.left), on.right - width);
      if (left < last + APART || width > on.right - on.left) continue;
      write(on, mark.name, left, on.top + LINE / 2, colour);
      last = left + width;
    }
  }

  function hypnogram(on, one, x) {
    const { top, bottom } = part(on, 0, 0.32);
    const y = (row) => top + (row + 0.5) * (bottom - top) / ROW_NAMES.length;
    levels(on, ROW_NAMES.map((name, row) => [name, y(row)]));
    const runs = [];
    for (let k = 0; k < one.labels.length; k++) {
      const last = runs[runs.length - 1];
      if (last && last.code === one.labels[k]) last.stop = k + 1;
      else runs.push({ code: one.labels[k], start: k, stop: k + 1 });
    }
    const pen = on.pen;
    pen.strokeStyle = STEM;
    pen.beginPath();
    runs.forEach((run, k) => {
      const next = runs[k + 1];
      if (!(run.code in ROWS) || !next || !(next.code in ROWS)) return;
      pen.moveTo(x(run.stop), y(ROWS[run.code]));
      pen.lineTo(x(run.stop), y(ROWS[next.code]));
    });
    pen.stroke();
    for (const run of runs.filter((one) => one.code in ROWS)) {
      pen.fillStyle = COLOURS[NAMES[run.code]];
      pen.fillRect(x(run.start), y(ROWS[run.code]) - 2, Math.max(1, x(run.stop) - x(run.start)), 4);
    }
  }

  // Calls `paint` for each column of pixels with its epoch.
  function columns(on, one, x, paint) {
    const step = 1 / on.scale;
    const end = Math.min(on.right, x(one.labels.length));
    for (let place = on.left; place < end; place += step) {
      const epoch = Math.floor((place + step / 2 - on.left) / (x(1) - x(0)));
      if (epoch < one.labels.length) paint(epoch, place, Math.min(step, end - place));
    }
  }

  function density(on, one, x) {
    const { top, bottom } = part(on, 0.35, 0.58);
    levels(on, [["100 %", top + 7], ["50 %", (top + bottom) / 2], ["0", bottom - 7]]);
    columns(on, one, x, (epoch, place, width) => {
      let low = bottom;
      for (const name of STACK) {
        const high = low - one.density[epoch][ORDER.indexOf(name)] / 255 * (bottom - top);
        on.pen.fillStyle = COLOURS[name];
        on.pen.fillRect(place, high, width, low - high);
        low = high;
      }
    });
  }

  function heat(value) {
    const place = Math.min(Math.max((value - FAINT) / (BRIGHT - FAINT), 0), 1) * (INFERNO.length - 1);
    const [from, to] = [INFERNO[Math.floor(place)], INFERNO[Math.ceil(place)]];
    return from.map((part, k) => part + (to[k] - part) * (place % 1));
  }

  function spectrogram(on, one, x) {
    const { top, bottom } = part(on, 0.61, 0.91);
    const y = (hz) => bottom - (hz - FIRST_HZ) / (HZ - FIRST_HZ) * (bottom - top);
    const found = [];
    columns(on, one, x, (epoch) => found.push(epoch));
    if (found.length) {
      const small = document.createElement("canvas");
      [small.width, small.height] = [found.length, BINS];
      const image = small.getContext("2d").createImageData(found.length, BINS);
      found.forEach((epoch, column) => one.spectrum[epoch].forEach((value, bin) => {
        if (value) image.data.set([...heat(value), 255], 4 * ((BINS - 1 - bin) * found.length + column));
      }));
      small.getContext("2d").putImageData(image, 0, 0);
      on.pen.imageSmoothingEnabled = false;
      on.pen.drawImage(small, on.left, top, Math.min(on.right, x(one.labels.length)) - on.left, bottom - top);
    }
    for (const hz of [25, 15, 5]) label(on, `${hz} Hz`, on.left - 6, y(hz), "right");
  }

  function quality(on, one, x) {
    const { top, bottom } = part(on, 0.95, 1);
    label(on, "quality", on.left - 6, (top + bottom) / 2, "right");
    columns(on, one, x, (epoch, place, width) => {
      on.pen.fillStyle = GRADES[one.grades[epoch]] || GROUND;
      on.pen.fillRect(place, top, width, bottom - top);
    });
  }

  // Ticks at full minutes or hours of the viewer's clock, as dense as their labels allow.
  function times(on, one, epochs) {
    const room = on.pen.measureText("00:00").width + APART;
    const perMinute = 2 * (on.right - on.left) / epochs;
    const minutes = MINUTES.find((step) => step * perMinute >= room) || MINUTES[MINUTES.length - 1];
    const zone = new Date(one.started * 1000).getTimezoneOffset() * 60;
    const step = 60 * minutes;
    const ticks = [];
    for (let s = Math.ceil((one.started - zone) / step) * step + zone; s <= one.started + 30 * epochs; s += step) {
      ticks.push([clock(s), on.left + (s - one.started) / 30 / epochs * (on.right - on.left)]);
    }
    return ticks;
  }

  function night(one) {
    const n = one.labels.length;
    const key = `${one.name} ${one.session} ${n} ${at("night").clientWidth} ${window.devicePixelRatio}`;
    if (key === drawn) return;
    drawn = key;
    const on = sheet("night");
    const epochs = Math.max(n, LEAST_EPOCHS);
    const x = (epoch) => on.left + epoch / epochs * (on.right - on.left);
    hypnogram(on, one, x);
    density(on, one, x);
    spectrogram(on, one, x);
    quality(on, one, x);
    below(on, times(on, one, epochs), (place) => rule(on, place, on.bottom, place, on.bottom + 4));
  }

  function draw(one) {
    eeg(one);
    night(one);
  }
  new ResizeObserver(() => show()).observe(document.body);
  return { draw, written };
})();
show();
