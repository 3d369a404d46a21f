// Receives the night from the engine, shows the stage, and warns when what it shows is old.
"use strict";
const COLOURS = { W: "#e9a820", N1: "#7fc4d9", N2: "#4b8fd0", N3: "#5a63c8", R: "#d4589d" };
const NAMES = { W: "W", 1: "N1", 2: "N2", 3: "N3", R: "R" };
const WORDS = { W: "awake", N1: "dozing", N2: "light sleep", N3: "deep sleep", R: "REM sleep" };
const ORDER = ["W", "N1", "N2", "N3", "R"];
const BINS = 38;
const BUTTONS = ["lights_off", "lights_on", "mark"];
const ALARM = ["arm_alarm", "disarm_alarm", "snooze_alarm", "dismiss_alarm"];
const SILENT_MS = 25000; // the engine sends something every 10 s
const streams = new Map();
let chosen = null;
let socket = null;
let fresh = true; // nothing has come over this connection yet; its first message has the whole night
let told = 0; // when the last message came
let tried = 0; // when we last tried to connect
let wait = 500;
let timer = 0;
let waiting = {}; // why samples do not arrive, by sleeper

const at = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const two = (n) => String(n).padStart(2, "0");

function clock(seconds, withSeconds) {
  const d = new Date(seconds * 1000);
  return `${two(d.getHours())}:${two(d.getMinutes())}` + (withSeconds ? `:${two(d.getSeconds())}` : "");
}

function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const silent = () => Date.now() - Math.max(told, tried) > SILENT_MS;

function connect() {
  clearTimeout(timer);
  tried = Date.now();
  fresh = true;
  if (socket) socket.onclose = socket.onmessage = null, socket.close();
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  socket.onmessage = (event) => { wait = 500; take(JSON.parse(event.data)); };
  socket.onclose = () => {
    socket = null;
    timer = setTimeout(connect, wait);
    wait = Math.min(wait * 2, 5000);
    say();
  };
  socket.onerror = () => {};
}

function take(update) {
  told = Date.now();
  if (fresh) streams.clear();
  fresh = false;
  waiting = update.waiting || {};
  for (const news of update.streams) absorb(news);
  if (!streams.has(chosen)) chosen = update.streams.length ? update.streams[0].name : null;
  show();
}

function absorb(news) {
  let one = streams.get(news.name);
  if (!one || one.session !== news.session || news.whole) {
    one = { labels: "", grades: "", density: [], spectrum: [], events: [], eeg: null, traces: [] };
    streams.set(news.name, one);
  }
  if (news.from > one.labels.length) return socket.close(); // we missed something: start again
  const { labels, grades, density, spectrum, events, eeg, traces, from, whole, ...now } = news;
  Object.assign(one, now, { heard: Date.now() - news.age_s * 1000 });
  one.labels = one.labels.slice(0, from) + labels;
  one.grades = one.grades.slice(0, from) + grades;
  const shares = bytes(density), columns = bytes(spectrum);
  for (let k = 0; k < labels.length; k++) {
    one.density[from + k] = shares.subarray(5 * k, 5 * k + 5);
    one.spectrum[from + k] = columns.subarray(BINS * k, BINS * (k + 1));
  }
  if (eeg) one.eeg = new Int16Array(bytes(eeg).buffer);
  if (eeg) one.traces = traces.map(({ data, ...about }) => data ? { ...about, numbers: new Int16Array(bytes(data).buffer) } : about);
  one.events = one.events.concat(events).slice(-100);
}

function show() {
  const one = streams.get(chosen);
  tabs();
  say();
  if (!one) return;
  now(one);
  at("source").textContent = one.session ? `${one.source}, ${one.channel}` : "";
  list(one);
  reports(one);
  alarm(one.alarm);
  if (window.charts && !document.hidden) window.charts.draw(one);
}

function now(one) {
  const stage = one.stage;
  if (!stage) return;
  const scored = stage.stage in COLOURS;
  at("stage").textContent = scored ? stage.stage : stage.stage.replace("_", " ");
  at("stage").className = scored ? "" : "word";
  at("stage").style.color = COLOURS[stage.stage] || "";
  at("clock").textContent = clock(Date.parse(stage.t_end) / 1000, true);
  at("sure").textContent = scored
    ? `${WORDS[stage.stage]}${stage.stage_lasted_s < 30 ? "" : ` for ${span(stage.stage_lasted_s)}`}, ` +
      `${Math.round(stage.confidence * 100)} % sure` + (stage.warmup ? ", still warming up" : "")
    : "not scored";
  at("shares").replaceChildren(...(stage.probabilities ? ORDER.map((name) => {
    const bar = document.createElement("i");
    bar.style.width = `${100 * stage.probabilities[name]}%`;
    bar.style.background = COLOURS[name];
    return bar;
  }) : []));
  const quality = stage.quality;
  at("quality").className = quality.grade;
  at("quality").textContent = `signal ${quality.grade}` + (quality.reasons.length ? `: ${quality.reasons.join(", ")}` : "");
  at("lost").textContent = one.gaps ? `${span(one.lost_s)} lost in ${one.gaps} gap${one.gaps > 1 ? "s" : ""}` : "nothing lost";
}

function alarm(one) {
  at("alarm").hidden = !one;
  if (!one) return;
  const [off, rings] = [one.state === "disarmed", one.state === "ringing"];
  at("alarm").className = one.state;
  at("alarm_state").textContent = off ? "no alarm" : `alarm ${one.state}, by ${clock(one.deadline)}`;
  at("arm_alarm").hidden = !off;
  if (document.activeElement !== at("alarm_time")) at("alarm_time").value = one.time || "";
  if (document.activeElement !== at("alarm_window")) at("alarm_window").value = one.window_min ?? "";
  at("disarm_alarm").hidden = off || rings;
  at("snooze_alarm").hidden = !rings;
  at("dismiss_alarm").hidden = !rings && one.state !== "snoozed";
}

function tabs() {
  at("sleepers").hidden = streams.size < 2;
  if (streams.size < 2) return;
  at("sleepers").replaceChildren(...[...streams].map(([name, one]) => {
    const tab = document.createElement("button");
    const stage = document.createElement("b");
    stage.textContent = one.stage ? one.stage.stage.replace("_", " ") : "–";
    if (one.stage) stage.style.color = COLOURS[one.stage.stage] || "";
    tab.append(name, stage);
    tab.setAttribute("aria-current", String(name === chosen));
    tab.onclick = () => { chosen = name; show(); };
    return tab;
  }));
}

function reports(one) {
  const links = one.reports || [];
  at("reports").hidden = !links.length;
  at("nights").replaceChildren(...links.map((link) => {
    const item = document.createElement("a");
    item.href = link.url;
    item.target = "_blank";
    item.rel = "noopener";
    item.textContent = link.title;
    return item;
  }));
}

function list(one) {
  const markers = one.events.filter((event) => event.event === "marker").slice(0, -3); // all but the last three
  at("events").replaceChildren(...one.events.filter((event) => !markers.includes(event)).slice(-12).reverse().map((event) => {
    const item = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = event.event.replaceAll("_", " ");
    item.className = event.event;
    item.append(`${clock(event.t, true)} `, name, event.text ? `: ${event.text}` : "");
    return item;
  }));
}

// Shows in the banner what is wrong with the data, if anything. Called every second, because age grows.
function say() {
  const one = streams.get(chosen);
  const quiet = (Date.now() - told) / 1000;
  const age = one ? (Date.now() - one.heard) / 1000 : 0;
  let text = "";
  let calm = false;
  if (!socket || socket.readyState !== WebSocket.OPEN) {
    text = told ? `No connection to the engine for ${span(quiet)}: what you see is old. Trying again.` : "Connecting.";
    calm = !told;
  } else if (one && waiting[chosen]) {
    text = `No samples arrive: ${waiting[chosen]}`;
  } else if (!one && Object.keys(waiting).length) {
    text = Object.entries(waiting).map(([name, why]) => `${name}: no samples arrive: ${why}`).join(" · ");
  } else if (!one) {
    [text, calm] = ["The engine has no stream yet.", true];
  } else if (one.between) {
    [text, calm] = [one.session ? "The night has ended; the next begins when the band is on." : "The night begins when the band is on.", true];
  } else if (one.ended) {
    [text, calm] = [`The recording has ended; the last stage is ${span(age)} old.`, true];
  } else if (one.stage && one.stage.stage === "no_signal") {
    text = `No signal for ${span(age)}: is the device on?`;
  } else if (age > Math.max(15, 2.5 * one.hop_s)) {
    text = `The data are ${span(age)} old.`;
  }
  at("banner").textContent = text;
  at("banner").hidden = !text;
  at("banner").className = calm ? "calm" : "";
  at("now").className = text && !calm || one && one.ended ? "old" : "";
  const ready = one && socket && socket.readyState === WebSocket.OPEN;
  for (const id of BUTTONS) at(id).disabled = !ready || one.ended && !(one.between && one.session && id === "lights_off");
  for (const id of [...ALARM, "alarm_time", "alarm_window"]) at(id).disabled = !ready || one.ended && !one.between;
}

const tell = (command, text) => socket.send(JSON.stringify({ stream: chosen, command, text }));
for (const [id, command] of [["alarm_time", "set_alarm"], ["alarm_window", "set_alarm_window"]]) {
  at(id).onchange = () => { if (at(id).checkValidity()) tell(command, at(id).value); };
}
for (const id of [...BUTTONS, ...ALARM]) {
  at(id).onclick = () => tell(id, "");
}
function dim(on) {
  document.body.classList.toggle("dim", on);
  at("dim").setAttribute("aria-pressed", String(on));
  localStorage.setItem("dim", on ? "1" : "");
}
at("dim").onclick = () => dim(!document.body.classList.contains("dim"));
dim(localStorage.getItem("dim") === "1");
function wake() {
  if (document.hidden) return;
  if (!socket || silent()) connect();
  else show();
}
document.addEventListener("visibilitychange", wake);
window.addEventListener("online", connect);
window.addEventListener("pageshow", wake);
setInterval(() => {
  if (socket && silent()) connect();
  say();
}, 1000);
connect();
