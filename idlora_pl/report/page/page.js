
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "currentColor"];
const DASH = "\u2013", ENOUGH = 200;
for (const column of data.columns) column.heading = column.heading.replace(/ (?=\S+$)/, "\u00a0");
const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
const clipName = (clip) => data.rows[clip.row] + (clip.seed === null ? "" : ", seed " + clip.seed);
const colour = (row) => COLOURS[row % COLOURS.length];
const dashes = (row) => ["", "6 3", "2 3", "8 3 2 3"][Math.floor(row / COLOURS.length) % 4];

// ---------------------------------------------------------------- values and their order

const state = { row: "", against: "", speaker: "", reason: "", text: "", by: null, reversed: false, all: false };
const lines = data.items.flatMap((item, at) => item.clips.map((clip) => ({ item, at, clip })));

/** What is compared and averaged: the distance from zero where that is what counts. */
function sized(value, column) { return data.columns[column].better === "near zero" ? Math.abs(value) : value; }
function meanOf(item, row, column) {
  const values = item.clips.filter((clip) => clip.row === row).map((clip) => clip.values[column]).filter(isNumber);
  const found = values.map((value) => sized(value, column));
  return found.length ? found.reduce((sum, one) => sum + one, 0) / found.length : null;
}
function isNumber(value) { return typeof value === "number"; }

/** The value of a line in a column; minus that of the row that is compared with, if any. */
function valueOf(line, column) {
  const value = line.clip.values[column];
  if (state.against === "" || !isNumber(value)) return isNumber(value) ? value : null;
  const other = meanOf(line.item, Number(state.against), column);
  if (other === null) return null;
  return sized(value, column) - other;
}

/** A number that is smaller the worse a value is. */
function goodness(value, column) {
  const better = data.columns[column].better;
  if (better === "near zero") return state.against === "" ? -Math.abs(value) : -value;
  return better === "lower" ? -value : value;
}

const TEXTS = {
  clip: (line) => line.item.key,
  row: (line) => line.clip.row,
  seed: (line) => line.clip.seed ?? -1,
  speaker: (line) => line.item.speaker,
};

/** Worst first; what has no value stands last both ways; equal ones keep the order of the file. */
function compare(a, b) {
  const turn = state.reversed ? -1 : 1;
  if (state.by in TEXTS) {
    const [x, y] = [TEXTS[state.by](a), TEXTS[state.by](b)];
    return turn * (x < y ? -1 : x > y ? 1 : 0);
  }
  const [x, y] = [valueOf(a, state.by), valueOf(b, state.by)];
  if (x === null || y === null) return (x === null) - (y === null);
  return turn * (goodness(x, state.by) - goodness(y, state.by));
}

function matches({ item, clip }) {
  const wanted = state.text.toLowerCase();
  const reasons = Object.values(clip.reasons);
  return (state.row === "" || clip.row === Number(state.row))
    && (state.against === "" || clip.row !== Number(state.against))
    && (state.speaker === "" || item.speaker === state.speaker)
    && (state.reason === "" || (state.reason === "*" ? reasons.length > 0 : reasons.includes(state.reason.slice(1))))
    && (wanted === "" || (item.key + "\n" + item.prompt).toLowerCase().includes(wanted));
}

// ---------------------------------------------------------------- filters and the list of clips

function chooser(label, name, choices) {
  const select = make("select", { id: "by-" + name, onchange: () => { state[name] = select.value; refresh(); } });
  for (const [value, text] of choices) select.append(make("option", { value }, text));
  return make("label", {}, label, select);
}
function filters() {
  const rows = data.rows.map((label, row) => [String(row), label]);
  const speakers = [...new Set(data.items.map((item) => item.speaker))].map((one) => [one, one]);
  const reasons = [...new Set(lines.flatMap(({ clip }) => Object.values(clip.reasons)))].sort().map((one) => ["=" + one, one]);
  const search = make("input", { type: "search", id: "search", placeholder: "name or prompt", "aria-label": "search names and prompts" });
  search.oninput = () => { state.text = search.value; refresh(); };
  const parts = [chooser("row", "row", [["", "all"], ...rows])];
  if (rows.length > 1) parts.push(chooser("minus", "against", [["", "nothing"], ...rows]));
  if (speakers.length > 1) parts.push(chooser("speaker", "speaker", [["", "all"], ...speakers]));
  if (reasons.length) parts.push(chooser("reason", "reason", [["", "all clips"], ["*", "any missing score"], ...reasons]));
  byId("filters").append(...parts, search);
}

function heads() {
  const plain = [["clip", "clip"], ["row", "row"], ["speaker", "speaker"]];
  if (lines.some(({ clip }) => clip.seed !== null)) plain.push(["seed", "seed"]);
  const all = [...plain.map(([by, text]) => [by, text, "text"]), ...data.columns.map((column, at) => [at, column.heading, ""])];
  const row = make("tr");
  for (const [by, text, kind] of all) {
    const button = make("button", { type: "button", "data-by": by }, text);
    button.onclick = () => {
      state.reversed = state.by === by && !state.reversed;
      state.by = by;
      refresh();
    };
    row.append(make("th", { scope: "col", class: kind }, button));
  }
  byId("list").tHead.append(row);
}

function number(value, column, signed) {
  const text = value.toFixed(data.columns[column].digits);
  return signed && value >= 0 ? "+" + text : text;
}

/** What a cell shows: the value with its doubt, or a dash with the reason. */
function shownValue(item, clip, column, compared = false) {
  const name = data.columns[column].name;
  const holder = document.createDocumentFragment();
  const value = compared ? valueOf({ item, clip }, column) : clip.values[column];
  if (isNumber(value)) {
    holder.append(number(value, column, compared && state.against !== ""));
    for (const place of clip.doubts[name] ?? []) {
      const { mark, text } = data.doubts[place];
      holder.append(make("sup", { title: text, "aria-label": text }, mark));
    }
  } else if (name in clip.reasons) {
    holder.append(DASH + " ", make("span", { class: "reason" }, clip.reasons[name]));
  } else {
    const why = isNumber(clip.values[column]) ? "the other row has no value" : "not scored";
    holder.append(make("span", { title: why, "aria-label": why }, DASH));
  }
  return holder;
}

function listLine(line) {
  const { item, clip, at } = line;
  const jump = make("a", { href: "#item-" + at, title: item.key }, item.key);
  const cells = [make("td", { class: "text" }, jump), make("td", { class: "text" }, data.rows[clip.row]), make("td", { class: "text" }, item.speaker)];
  if (byId("list").tHead.querySelector("[data-by=seed]")) cells.push(make("td", { class: "text" }, clip.seed === null ? "" : String(clip.seed)));
  data.columns.forEach((_, column) => cells.push(make("td", {}, shownValue(item, clip, column, true))));
  return make("tr", { "data-item": at, "data-row": clip.row }, ...cells);
}

function refresh() {
  const found = lines.filter(matches);
  if (state.by !== null) found.sort(compare);
  const table = byId("list");
  for (const button of table.tHead.querySelectorAll("button")) {
    const mine = button.dataset.by === String(state.by);
    const column = data.columns[button.dataset.by];
    const first = !column ? ["\u2191", "\u2193"] : column.better ? ["worst first", "best first"] : ["lowest first", "highest first"];
    button.textContent = (column ? column.heading : button.dataset.by) + (mine ? ", " + first[Number(state.reversed)] : "");
    if (mine) button.parentElement.setAttribute("aria-sort", state.reversed ? "descending" : "ascending");
    else button.parentElement.removeAttribute("aria-sort");
  }
  const shown = state.all ? found : found.slice(0, ENOUGH);
  table.tBodies[0].replaceChildren(...shown.map(listLine));
  const more = byId("more");
  more.hidden = shown.length === found.length;
  more.textContent = "List the other " + (found.length - shown.length) + " clips";
  const order = [...new Set(found.map(({ at }) => at))];
  byId("said").textContent = found.length + " of " + lines.length + " clips, " + order.length + " of " + data.items.length + " items"
    + (state.against === "" ? "" : "; values minus those of " + data.rows[Number(state.against)] + " on the same item")
    + (state.by === null ? "; choose a heading to sort, worst first" : "");
  arrange(order);
}

// ---------------------------------------------------------------- items

const cards = data.items.map((item, at) => makeCard(item, at));
const watcher = new IntersectionObserver((changes) => {
  for (const change of changes) {
    const card = cards.find((one) => one.element === change.target);
    if (change.isIntersecting) card.build(); else card.clear();
  }
}, { rootMargin: "900px 0px" });

function arrange(order) {
  order.forEach((at, place) => { cards[at].place.textContent = (place + 1) + " of " + order.length; });
  byId("items").replaceChildren(...order.map((at) => cards[at].element));
}

function makeCard(item, at) {
  const place = make("span", { class: "place" });
  const body = make("div", { class: "body" });
  const head = make("header", {}, make("h3", {}, item.key), make("span", { class: "place" }, "speaker " + item.speaker), place, make("a", { class: "place", href: "#browse" }, "list"));
  const element = make("article", { class: "item", id: "item-" + at, tabindex: "-1", "aria-label": item.key }, head);
  if (item.words) element.append(make("p", { class: "words" }, "\u201c" + item.words + "\u201d"));
  if (item.prompt) element.append(make("details", { class: "prompt" }, make("summary", {}, "prompt"), item.prompt));
  element.append(body);
  const card = { item, element, place, body, group: null };
  card.build = () => {
    if (card.group) return;
    card.group = new Group(item);
    body.replaceChildren(card.group.tools, make("div", { class: "wide" }, matrix(card.group)), plots(card.group));
    body.style.minHeight = "0";
    byId("items").style.setProperty("--height", body.offsetHeight + "px");
  };
  card.clear = () => {
    if (!card.group || card.group.isPlaying()) return;
    body.style.minHeight = body.offsetHeight + "px";
    card.group.release();
    card.group = null;
    body.replaceChildren();
  };
  return card;
}

/** The columns of an item: reference, target, then the clips. */
function columnsOf(item) {
  const found = [];
  if (item.reference !== null) found.push({ role: "reference", label: "reference", file: data.files[item.reference] });
  if (item.target !== null) found.push({ role: "target", label: "target", file: data.files[item.target] });
  for (const clip of item.clips) {
    const file = clip.file === null ? null : data.files[clip.file];
    found.push({ role: "clip", label: data.rows[clip.row], file, clip });
  }
  return found;
}

function matrix(group) {
  const { item, columns } = group;
  const head = make("tr", {}, make("th"));
  for (const column of columns) {
    const swatch = make("span", { class: "swatch" });
    if (column.clip) swatch.style.background = colour(column.clip.row); else swatch.hidden = true;
    const cell = make("th", { scope: "col" }, swatch, column.label);
    const more = [column.clip?.is_target && column.label !== "target" ? "the target" : "", column.clip && column.clip.seed !== null ? "seed " + column.clip.seed : ""].filter(Boolean);
    if (more.length) cell.append(make("span", { class: "place" }, " " + more.join(", ")));
    if (column.hear) cell.append(column.hear);
    column.cell = cell;
    head.append(cell);
  }
  const rows = [mediaLine("clip", columns, (column) => column.holder), mediaLine("sound", columns, (column) => column.sound)];
  data.columns.forEach((column, at) => {
    if (!item.clips.some((clip) => isNumber(clip.values[at]) || column.name in clip.reasons)) return;
    const cells = columns.map((one) => make("td", { class: "value" }, one.clip ? shownValue(item, one.clip, at) : ""));
    rows.push(make("tr", { "data-score": column.name }, make("th", { scope: "row" }, column.heading), ...cells));
  });
  if (columns.some((column) => column.clip && Object.keys(column.clip.details).length)) {
    rows.push(make("tr", {}, make("th", { scope: "row" }, "what the scorers say"), ...columns.map(detailCell)));
  }
  const table = make("table", { class: "matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
  table.style.setProperty("--n", columns.length);
  group.hearing();
  return table;
}

function mediaLine(title, columns, part) {
  return make("tr", { class: "media" }, make("th", { scope: "row" }, title), ...columns.map((column) => make("td", {}, part(column) ?? "")));
}

function detailCell(column) {
  const cell = make("td", { class: "details" });
  for (const [scorer, said] of Object.entries(column.clip?.details ?? {})) {
    for (const [name, text] of Object.entries(said)) cell.append(make("div", {}, make("b", { title: scorer }, name + " "), text));
  }
  return cell;
}

// ---------------------------------------------------------------- playing

let latest = null;  // the medium whose moment the pictures show

/** What stands under a player; unlike the browser's own controls it does not cover mouths. */
class Bar {
  constructor(group, column, label) {
    const player = column.player;
    this.player = player;
    this.label = label;
    this.button = make("button", { type: "button", onclick: () => { if (player.paused) player.play(); else player.pause(); } });
    this.range = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "position in " + label });
    this.range.oninput = () => group.seek(column, Number(this.range.value));
    this.time = make("span");
    this.element = make("div", { class: "bar" }, this.button, this.range, this.time);
    if (player.localName === "video") {
      const full = make("button", { type: "button", title: "fill the screen", "aria-label": "fill the screen with " + label, onclick: () => player.requestFullscreen() });
      full.append(icon("M2 6V2h4M10 2h4v4M14 10v4h-4M6 14H2v-4"));
      this.element.append(full);
    }
    this.turn();
  }
  turn() {
    const paused = this.player.paused;
    this.button.replaceChildren(icon(paused ? "M4 2l10 6-10 6z" : "M3 2h3.5v12H3zM9.5 2H13v12H9.5z", true));
    this.button.setAttribute("aria-label", (paused ? "play " : "pause ") + this.label);
  }
  show() {
    const { currentTime, duration } = this.player;
    if (!duration) return;
    this.range.max = duration;
    this.range.value = currentTime;
    this.time.textContent = currentTime.toFixed(1) + " / " + duration.toFixed(1);
  }
}
function icon(path, filled = false) {
  return drawn("svg", { class: filled ? "icon filled" : "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, drawn("path", { d: path }));
}

/** The players of one item; target and clips can be played together, one of them heard. */
class Group {
  constructor(item) {
    this.item = item;
    this.together = false;
    this.columns = columnsOf(item);
    const wide = this.columns.map((column) => column.file?.wide ?? 1).sort((a, b) => a - b)[Math.floor(this.columns.length / 2)];
    this.ratio = Math.min(1.78, Math.max(0.62, wide));
    const longest = Math.max(...this.columns.map((column) => column.file?.sound_s ?? 0));
    const radios = "hear-" + data.items.indexOf(item);
    this.columns.forEach((column) => this.addPlayer(column, longest, radios));
    this.joined = this.columns.filter((column) => column.player && column.role !== "reference");
    this.heard = this.joined.find((column) => column.role === "clip") ?? this.joined[0] ?? null;
    this.button = make("button", { type: "button", class: "play", onclick: () => this.toggle() }, "play together");
    const again = make("button", { type: "button", class: "again", onclick: () => this.restart() }, "from the start");
    this.tools = make("div", { class: "tools" }, this.button, again);
    if (this.joined.length < 2) this.tools.hidden = true;
    this.chosen = make("select", { "aria-label": "speed" }, ...[["1", "speed 1"], ["0.5", "speed 1/2"], ["0.25", "speed 1/4"]].map(([value, text]) => make("option", { value }, text)));
    this.chosen.onchange = () => this.setSpeed();
    this.loop = make("input", { type: "checkbox" });
    this.tools.append(this.chosen, make("label", {}, this.loop, " loop"), make("span", { class: "place" }, "keys: p play, 1-9 hear, j and k next and previous item"));
  }

  addPlayer(column, longest, radios) {
    const file = column.file;
    column.holder = make("div");
    if (!file || !file.src) {
      column.holder.append(make("div", { class: "none" }, file ? file.said : "no clip"));
      column.holder.firstChild.style.aspectRatio = this.ratio;
      return;
    }
    const label = column.clip ? clipName(column.clip) : column.label;
    const player = make(file.kind, { playsinline: true, preload: "metadata", src: file.src, "data-role": column.role, "aria-label": label });
    if (file.kind === "video") {
      player.style.aspectRatio = this.ratio;
      if (file.poster) player.poster = file.poster;
      player.title = "press to play alone, or to hear it while all play";
      player.onclick = () => { if (this.together) this.hear(column); else if (player.paused) player.play(); else player.pause(); };
    }
    player.onerror = () => column.holder.replaceChildren(make("div", { class: "none" }, "cannot be played: " + file.name));
    player.onplay = () => { column.bar.turn(); this.began(column); };
    player.onpause = () => { column.bar.turn(); if (this.together && !player.ended) this.pause(); };
    player.onended = () => this.ended();
    player.onseeking = player.ontimeupdate = player.onloadedmetadata = () => { if (!latest || latest.paused) latest = player; move(); };
    column.player = player;
    column.bar = new Bar(this, column, label);
    column.holder.append(player, column.bar.element);
    if (column.clip?.changed) column.holder.append(make("div", { class: "said alarm" }, "not the file that was scored any more"));
    if (file.said) column.holder.append(make("div", { class: "said" }, file.said));
    if (column.role !== "reference") {
      const radio = make("input", { type: "radio", name: radios, onchange: () => this.hear(column) });
      column.hear = make("label", { class: "hear" }, radio, "hear");
    }
    if (file.sound) this.addPicture(column, longest);
  }

  addPicture(column, longest) {
    const { file, player } = column;
    const picture = make("img", { src: file.sound, loading: "lazy", draggable: "false", alt: "" });
    const line = make("i");
    line.hidden = true;
    const title = "waveform (square root of the amplitude) and log-mel from 50 Hz to 8 kHz, a tick each half second, " + file.sound_s.toFixed(2) + " s; press to go there";
    const button = make("button", { type: "button", class: "sound", title, "aria-label": "waveform and spectrogram of " + column.label }, picture, line);
    button.style.width = (100 * file.sound_s / longest) + "%";
    button.onclick = (event) => {
      const box = button.getBoundingClientRect();
      this.seek(column, event.detail ? (event.clientX - box.left) / box.width * file.sound_s : 0);
    };
    column.sound = button;
    column.line = line;
    player.dataset.sound = file.sound_s;
  }

  speed() { return Number(this.chosen.value); }
  setSpeed() { for (const { player } of this.columns) if (player) player.playbackRate = this.speed(); }

  seek(column, time) {
    for (const { player } of this.together ? this.joined : [column]) player.currentTime = Math.min(time, player.duration || time);
  }

  hear(column) {
    this.heard = column;
    if (this.together) this.joined.forEach((one) => { one.player.muted = one !== column; });
    this.hearing();
  }
  hearing() {
    for (const column of this.joined) {
      column.cell?.classList.toggle("heard", column === this.heard);
      column.hear.firstChild.checked = column === this.heard;
    }
  }

  isPlaying() { return this.columns.some((column) => column.player && !column.player.paused); }
  playable() { return this.joined.filter((column) => column.player.isConnected && !column.player.error); }

  toggle() { if (this.together) this.pause(); else this.play(); }
  restart() {
    this.pause();
    this.joined.forEach((column) => { column.player.currentTime = 0; });
    this.play();
  }
  /** Start all together, from where the heard one stands, once each has its first frames. */
  async play() {
    const members = this.playable();
    if (!members.length) return;
    if (!members.includes(this.heard)) this.hear(members[0]);
    pauseOthers(this);
    this.columns.forEach((column) => { if (column.role === "reference") column.player?.pause(); });
    this.together = true;
    this.button.textContent = "pause all";
    const start = members.every(({ player }) => player.ended || !player.currentTime) || this.heard.player.ended ? 0 : this.heard.player.currentTime;
    for (const { player } of members) {
      player.preload = "auto";
      player.muted = player !== this.heard.player;
      player.currentTime = Math.min(start, player.duration || start);
    }
    await Promise.all(members.map(({ player }) => ready(player)));
    if (!this.together) return;
    latest = this.heard.player;
    const starting = members.filter(({ player }) => start < player.duration);
    await Promise.allSettled(starting.map(({ player }) => player.play()));
    // a browser may refuse sound before the reader has touched the page
    if (this.together && this.heard.player.paused && !this.heard.player.ended) this.pause();
  }
  pause() {
    this.together = false;
    this.button.textContent = "play together";
    this.joined.forEach((column) => column.player.pause());
    this.setSpeed();
  }
  /** A player was started by itself or as one of all. */
  began(column) {
    latest = this.together ? this.heard.player : column.player;
    if (!this.together) {
      column.player.muted = false;
      pauseOthers(null, column.player);
    }
    follow();
  }
  ended() {
    if (!this.together || this.joined.some(({ player }) => !player.paused && !player.ended)) return;
    this.pause();
    if (this.loop.checked) this.restart();
  }
  /** Let players catch up that have drifted from the one that is heard; a jump stalls a slow machine, so only for far ones. */
  align() {
    const now = this.heard.player;
    if (now.paused || now.seeking || now.ended) return;
    for (const { player } of this.joined) {
      if (player === now || player.paused || player.seeking) continue;
      const late = now.currentTime - player.currentTime;
      if (Math.abs(late) > 1) player.currentTime = now.currentTime;
      player.playbackRate = this.speed() * (Math.abs(late) < 0.04 ? 1 : 1 + Math.max(-0.25, Math.min(0.25, late)));
    }
  }
  release() {
    for (const { player } of this.columns) {
      if (!player) continue;
      if (latest === player) latest = null;
      player.onerror = null;
      player.removeAttribute("src");
      player.load();
    }
  }
}

function ready(player) {
  if (player.readyState >= 3 || player.error) return Promise.resolve();
  return new Promise((done) => {
    for (const name of ["canplay", "error"]) player.addEventListener(name, done, { once: true });
  });
}

function groups() { return cards.map((card) => card.group).filter(Boolean); }
function pauseOthers(group, player = null) {
  for (const one of groups()) {
    if (one === group) continue;
    if (one.together) one.pause();
    for (const column of one.columns) if (column.player && column.player !== player) column.player.pause();
  }
}

let following = false, aligned = 0;
function follow() {
  if (following) return;
  following = true;
  const step = (now) => {
    move();
    if (now - aligned > 500) {
      aligned = now;
      groups().forEach((group) => { if (group.together) group.align(); });
    }
    following = groups().some((group) => group.isPlaying());
    if (following) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

/** Show in pictures and plots where the players are. */
function move() {
  for (const group of groups()) {
    for (const { player, line, bar } of group.columns) {
      bar?.show();
      if (!line) continue;
      line.hidden = !player.currentTime;
      line.style.left = Math.min(100, 100 * player.currentTime / Number(player.dataset.sound)) + "%";
    }
    const mine = latest && group.columns.some(({ player }) => player === latest);
    for (const place of group.nows ?? []) place(mine && latest.currentTime ? latest.currentTime : null);
  }
}

// ---------------------------------------------------------------- plots

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== "") element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Round numbers from low to high, about n of them. */
function ticks(low, high, n) {
  const raw = (high - low) / n || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function plots(group) {
  const holder = make("div", { class: "plots" });
  group.nows = [];
  for (const curve of data.curves) {
    const clips = group.item.clips.filter((clip) => clip.curves[curve.name]?.[2].length);
    if (clips.length) holder.append(plot(curve, clips, group.nows));
  }
  return holder;
}

function plot(curve, clips, nows) {
  const W = 520, H = 190, left = 46, right = 8, top = 8, bottom = 34;
  const room = (curve.high - curve.low || Math.abs(curve.high) || 1) * 0.06;
  const [low, high] = [curve.low - room, curve.high + room];
  const end = Math.max(...clips.map((clip) => { const [start, step, values] = clip.curves[curve.name]; return start + step * (values.length - 1); }), 0.5);
  const x = (time) => left + time / end * (W - left - right), y = (value) => H - bottom - (value - low) / (high - low) * (H - top - bottom);
  const svg = drawn("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": curve.title + " over time" });
  svg.append(drawn("rect", { class: "start", x: x(0), y: top, width: x(0.5) - x(0), height: H - top - bottom }, drawn("title", {}, "windows that start in the first half second")));
  for (const value of ticks(low, high, 5)) {
    svg.append(drawn("line", { class: value === 0 ? "zero" : "axis", x1: left, x2: W - right, y1: y(value), y2: y(value) }),
      drawn("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const time of ticks(0, end, 6)) {
    svg.append(drawn("line", { class: "axis", x1: x(time), x2: x(time), y1: H - bottom, y2: H - bottom + 4 }),
      drawn("text", { x: x(time), y: H - bottom + 16, "text-anchor": "middle" }, String(time)));
  }
  svg.append(drawn("text", { x: (left + W - right) / 2, y: H - 4, "text-anchor": "middle" }, "start of the window, s"));
  for (const clip of clips) svg.append(...curveLine(clip, curve, x, y));
  const now = drawn("line", { class: "now", y1: top, y2: H - bottom, visibility: "hidden" });
  svg.append(now);
  nows.push((time) => {
    now.setAttribute("visibility", time === null || time > end ? "hidden" : "visible");
    if (time !== null) { now.setAttribute("x1", x(time)); now.setAttribute("x2", x(time)); }
  });
  return make("figure", { "data-curve": curve.name }, make("figcaption", {}, curve.title + " over time; colours as above, one range for all items"), svg);
}

function curveLine(clip, curve, x, y) {
  const [start, step, values, marked] = clip.curves[curve.name];
  let path = "", open = false;
  const points = [];
  values.forEach((value, k) => {
    const time = start + k * step;
    if (!isNumber(value)) { open = false; return; }
    path += (open ? "L" : "M") + x(time).toFixed(1) + " " + y(value).toFixed(1);
    open = true;
    const hollow = marked.includes(k);
    const text = clipName(clip) + ", " + Number(time.toPrecision(6)) + " s: " + value + (hollow ? ", may be none" : "");
    const look = hollow ? { class: "hollow", fill: "none", stroke: colour(clip.row), "pointer-events": "all" } : { fill: colour(clip.row) };
    points.push(drawn("circle", { cx: x(time), cy: y(value), r: 2.6, ...look }, drawn("title", {}, text)));
  });
  return [drawn("path", { d: path, stroke: colour(clip.row), "stroke-dasharray": dashes(clip.row) }), ...points];
}

// ---------------------------------------------------------------- keys

/** The card that a reader looks at: that of the focus, or the first one that reaches into the upper part of the window. */
function here() {
  const focused = document.activeElement?.closest?.(".item");
  const inView = (element) => { const box = element.getBoundingClientRect(); return box.bottom > innerHeight * 0.3 && box.top < innerHeight; };
  const order = [...byId("items").children];
  const element = focused && inView(focused) ? focused : order.find(inView);
  return element ? cards.find((card) => card.element === element) : null;
}
function go(step) {
  const order = [...byId("items").children];
  const at = order.indexOf(here()?.element);
  const box = at >= 0 ? order[at].getBoundingClientRect() : null;
  const next = order[at < 0 || (step > 0 && box.top > innerHeight * 0.3) ? Math.max(at, 0) : at + step];
  if (next) { next.focus({ preventScroll: true }); next.scrollIntoView(); }
}
document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "radio") return;
  const group = here()?.group;
  if (event.key === "j") go(1);
  else if (event.key === "k") go(-1);
  else if (event.key === "p") group?.toggle();
  else if (/^[1-9]$/.test(event.key)) { const column = group?.joined[Number(event.key) - 1]; if (column) group.hear(column); }
  else if (event.key === "/") byId("search").focus();
  else return;
  event.preventDefault();
};

if (lines.length) {
  byId("browse").hidden = false;
  byId("more").onclick = () => { state.all = true; refresh(); };
  filters();
  heads();
  refresh();
  cards.forEach((card) => watcher.observe(card.element));
}
