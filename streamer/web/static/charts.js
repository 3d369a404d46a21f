// Draws the night and the last 30 s on two canvases; see page.js for the data.
"use strict";
window.charts = (() => {
  const ROWS = { W: 0, R: 1, 1: 2, 2: 3, 3: 4 }; // from the top
  const ROW_NAMES = ["W", "R", "N1", "N2", "N3"];
  const GRADES = { g: "#3f7f5c", f: "#d9c94a", p: "#e07b39", o: "#b3261e" };
  const STACK = ["N3", "N2", "N1", "R", "W"]; // from the bottom
  const GROUND = "#0e1219", GRID = "#1c232d", TEXT = "#8b96a3", STEM = "#5b6675", TRACE = "#8fd0a5";
  const FONT = "11px system-ui, sans-serif", LINE = 14; // px
  const LEFT = 52, RIGHT = 12, TOP = 8, BOTTOM = 26; // px
  const APART = 10; // px, at least, between two labels
  const LEAST_EPOCHS = 20; // that the night's axis has room for
  const MINUTES = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440, 2880, 7200, 14400];
  const LIMITS = [50, 100, 200, 400, 800, 1600]; // µV
  const HZ = 30, FIRST_HZ = 0.2;
  const FAINT = 70, BRIGHT = 185; // of a spectrum's bytes
  const INFERNO = [[0, 0, 4], [51, 9, 95], [133, 33, 103], [207, 68, 70], [251, 155, 6], [252, 255, 164]];
  const written = {}; // chart -> every label that stands in it: its text and its box, px
  let drawn = ""; // the night that stands there

  // A canvas of the element's size, in the screen's own pixels; all below counts in CSS pixels.
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
    on.pen.fillStyle = GROUND;
    on.pen.fillRect(on.left, top, on.right - on.left, bottom - top);
    return { top, bottom };
  };

  function label(on, text, x, y, align) {
    const width = on.pen.measureText(text).width;
    const left = align === "right" ? x - width : x - width / 2;
    const box = { text, left, right: left + width, top: y - LINE / 2, bottom: y + LINE / 2 };
    on.pen.fillStyle = TEXT;
    on.pen.textBaseline = "middle";
    on.pen.textAlign = "left";
    on.pen.fillText(text, left, y);
    written[on.id].push(box);
  }

  function rule(on, x, y, toX, toY) {
    on.pen.strokeStyle = GRID;
    on.pen.lineWidth = 1;
    on.pen.beginPath();
    on.pen.moveTo(Math.round(x) + 0.5, Math.round(y) + 0.5);
    on.pen.lineTo(Math.round(toX) + 0.5, Math.round(toY) + 0.5);
    on.pen.stroke();
  }

  // Labels at the left, each with its line; those that would touch the one before are left out.
  function levels(on, named) {
    let last = -Infinity;
    for (const [text, y] of named) {
      rule(on, on.left, y, on.right, y);
      if (Math.abs(y - last) < LINE) continue;
      label(on, text, on.left - 6, Math.min(Math.max(y, on.top + LINE / 2), on.bottom - LINE / 2), "right");
      last = y;
    }
  }

  // Labels below, as many as have room; `mark` is called with the place of each.
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

  function eeg(one) {
    const on = sheet("eeg");
    const trace = one.eeg || new Int16Array(0); // nothing yet of this sleeper's
    const top = trace.reduce((most, v) => (v === -32768 ? most : Math.max(most, Math.abs(v))), 0) / 10;
    const limit = LIMITS.find((step) => step >= top) || Math.ceil(top / 1000) * 1000;
    const { top: high, bottom: low } = part(on, 0, 1);
    const y = (v) => (high + low) / 2 - v / limit * (low - high) / 2;
    const x = (s) => on.right + s / 30 * (on.right - on.left);
    levels(on, [limit, limit / 2, 0, -limit / 2, -limit].map((v) => [`${v} µV`, y(v)]));
    below(on, [-30, -25, -20, -15, -10, -5, 0].map((s) => [`${s} s`, x(s)]), (place) => rule(on, place, high, place, low));
    const pen = on.pen;
    pen.strokeStyle = TRACE;
    pen.beginPath();
    let gone = true;
    trace.forEach((v, k) => {
      if (v !== -32768) pen[gone ? "moveTo" : "lineTo"](x((k - trace.length) / 100), y(v / 10));
      gone = v === -32768;
    });
    pen.stroke();
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

  // One call for each column of the screen's pixels, with the epoch that lies there.
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

  // Full minutes and hours of the viewer's own clock, no denser than their labels allow.
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
