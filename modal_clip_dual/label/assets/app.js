// The page: it shows the state that the server tells, and tells the server what the person does.
// All text enters the page by textContent; nothing that comes from a file is read as HTML.

import { accuracyPlot, color, percent } from "./plots.js";

const FEW = 20; // classes that are all shown, the first ten with a number key; of more, the likeliest of an image
const PAGE = 24; // images of a page of review
const DOUBT = 0.5;

const $ = (id) => document.getElementById(id);
let state = null; // what the server told last
let view = "label"; // label, labels, predictions, history
let single = false; // one image at a time
let looked = { tiles: [], total: 0, offset: 0 }; // what is looked through, outside of "label"
let selected = new Set(); // rows
let cursor = null; // the row that arrows start from
let anchor = null; // where a selection by Shift began
let walking = false; // the selected image was reached by a jump, so that a class given there leads on to the next
let elements = new Map(); // tiles by row
let shown = null; // what the content was built for
let busy = Promise.resolve(); // gestures are sent one after the other
let confirming = false;
let few = true; // numbers mean the same for every image; said once, so that a new class does not change it

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// ---------------------------------------------------------------- the server

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  const told = await answer.json();
  if (told.error) throw new Error(told.error);
  return told;
}

/** Send a gesture after those before it; show the state that comes back. */
function act(name, body = {}) {
  busy = busy.then(async () => {
    try {
      take(await ask(`api/${name}`, body));
      return true;
    } catch (error) {
      toast(error instanceof TypeError ? "The program does not answer; this was not saved." : error.message);
      return false;
    }
  });
  return busy;
}

async function listen() {
  for (;;) {
    try {
      take(await ask(state === null ? "api/state" : `api/state?since=${state.version}`));
      $("offline").hidden = true;
    } catch {
      $("offline").hidden = false;
      await new Promise((done) => setTimeout(done, 1500));
    }
  }
}

function take(told) {
  if (state !== null && told.version < state.version) return;
  if (state === null) few = told.classes.length <= FEW;
  state = told;
  render();
}

// ---------------------------------------------------------------- what is shown

function tiles() {
  return view === "label" ? (state.grid ? state.grid.tiles : []) : looked.tiles;
}

function waiting() {
  return tiles().filter((tile) => !tile.said);
}

/** Tiles in the order of the page: by predicted class, the surest last, so that doubtful ones are seen first. */
function groups() {
  const place = new Map(state.classes.map((name, k) => [name, k]));
  const found = new Map();
  for (const tile of tiles()) {
    const key = tile.name ?? "";
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(tile);
  }
  const sorted = [...found].sort((a, b) => (place.get(a[0]) ?? 1e9) - (place.get(b[0]) ?? 1e9));
  for (const [, some] of sorted) some.sort((a, b) => (a.correct ?? 0) - (b.correct ?? 0));
  return sorted;
}

function inOrder() {
  return view === "label" ? groups().flatMap(([, some]) => some) : tiles();
}

function render() {
  const key = view === "label" ? `${single} ${state.grid ? state.grid.number : state.status.phase}` : `${view} ${looked.offset} ${looked.tiles.length}`;
  if (key !== shown || (view === "label" && (!state.grid || single))) build(key);
  for (const tile of tiles()) {
    const element = elements.get(tile.row);
    if (element) dress(element, tile);
  }
  renderHead();
  renderStatus();
  renderPalette();
  renderPanel();
  const left = state.pool - state.labeled;
  $("count").textContent = state.pool ? `${state.labeled.toLocaleString("en")} labeled, ${left.toLocaleString("en")} without a label` : "";
  $("undo").disabled = !state.can_undo;
  document.querySelectorAll("nav button").forEach((button) => {
    const here = button.dataset.view === view || (button.dataset.view === "labels" && ["predictions", "disagreements"].includes(view));
    if (here) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  });
}

function build(key) {
  const content = $("content");
  if (key !== shown) {
    selected = new Set();
    walking = false;
    const first = inOrder()[0];
    cursor = anchor = first ? first.row : null;
    if (single && first) select(inOrder().find((tile) => !tile.said)?.row ?? first.row);
    scrollTo(0, 0);
  }
  shown = key;
  elements = new Map();
  content.classList.toggle("groups", view === "label" && !single && state.grid !== null);
  if (view === "label" && !state.grid) return content.replaceChildren(emptiness());
  if (view === "label" && single) return content.replaceChildren(oneImage());
  if (view === "label") {
    content.replaceChildren(...groups().map(([name, some]) => group(name, some)));
  } else if (!looked.tiles.length) {
    content.replaceChildren(h("div", { class: "empty" }, h("p", { class: "big" }, looked.loading ? "One moment" : "Nothing here yet"),
      h("p", {}, looked.loading ? "The model looks at the images." : NOTHING[view])));
  } else {
    content.replaceChildren(h("div", { class: "group" }, tileList(looked.tiles, TITLES[view])), pager());
  }
  focusCursor(false, false);
}

const TITLES = { disagreements: "Images that people labeled differently", labels: "Labels the model doubts", predictions: "Predictions the model doubts", history: "Answers" };
const NOTHING = {
  disagreements: "Images that people labeled differently will stand here.",
  labels: "Labels that you gave and the model doubts will stand here.",
  predictions: "Predictions of the model for images without a label will stand here, the most doubtful first.",
  history: "All your answers will stand here, the latest first.",
};
const EXPLAINED = {
  disagreements: "Images that people labeled differently, and what each one said. The green label counts; give another one to decide.",
  labels: "Your labels, those first to which the model gives the smallest probability. It was trained on them, so it seldom objects, and is not always right when it does.",
  predictions: "What the model says of images without a label, the most doubtful first. Correct them, or confirm them.",
  history: "All answers, the latest first. Select some to change them or to take them back.",
};

const MOST_PAIRS = 3; // of people, whose agreement is told

function agreement() {
  if (!["labels", "disagreements"].includes(view)) return "";
  const told = state.agreements.slice(0, MOST_PAIRS).map(({ people: [first, second], both, alike, kappa }) => {
    const images = both === 1 ? "1 image" : `${both.toLocaleString("en")} images`;
    const chance = kappa === null ? "Cohen's kappa is not defined for one and the same label" : `Cohen's kappa is ${kappa.toFixed(2)}`;
    return `${images} labeled by both ${first} and ${second}, ${alike.toLocaleString("en")} alike; ${chance}.`;
  });
  const more = state.agreements.length - told.length;
  return [...told, ...(more > 0 ? [`${more} more pairs of people.`] : [])].join(" ");
}

function group(name, some) {
  const k = state.classes.indexOf(name);
  const dot = h("i", { class: "dot" });
  dot.style.background = name ? color(k) : "var(--soft)";
  const title = h("span", { class: "title" }, name || "No prediction yet");
  title.style.maxWidth = `${Math.max(190, 122 * some.length - 40)}px`; // about as wide as the images below it
  const heading = h("button", { type: "button", title: `${name || "No prediction yet"}: select these images`, onclick: () => selectAll(some) },
    dot, title, h("span", { class: "n" }, `${some.length}`));
  return h("section", { class: "group" }, h("h3", {}, heading), tileList(some, name || "No prediction yet"));
}

function tileList(some, label) {
  return h("div", { class: "tiles", role: "listbox", "aria-label": label, "aria-multiselectable": "true" }, ...some.map(tileElement));
}

function tileElement(tile) {
  const picture = h("img", { src: `thumb/${tile.row}`, alt: "", draggable: "false", decoding: "async" });
  const element = h("button", { type: "button", class: "tile", role: "option", tabindex: "-1", "data-row": tile.row, title: tile.file },
    picture, h("span", { class: "text" }, h("span", { class: "name" }), h("span", { class: "share" })), h("span", { class: "model" }));
  picture.addEventListener("load", () => { tiny(picture); renderHead(); });
  picture.addEventListener("error", () => {
    element.classList.add("broken");
    element.dataset.done = "";
    if (view !== "label" && tile.said === null) tile.said = { what: "drop", name: null }; // the server leaves it out
    render();
  });
  element.addEventListener("click", (event) => clicked(tile.row, event));
  element.addEventListener("dblclick", () => zoom(tile.row));
  elements.set(tile.row, element);
  return element;
}

/** Pictures of a few pixels are shown as pixels, not as a blur. */
function tiny(picture) {
  const few = picture.naturalWidth <= 64 && picture.naturalHeight <= 64;
  picture.classList.toggle("tiny", few);
  if (!few) $("content").classList.add("pictures"); // photographs need more room than a few pixels
}

function dress(element, tile) {
  const said = tile.said;
  const name = element.querySelector(".name");
  const differs = said !== null && said.what === "label" && tile.name !== null && said.name !== tile.name;
  if (said === null) name.textContent = tile.name ?? "?";
  else if (differs && view === "label") name.replaceChildren(said.name, " ", h("s", {}, tile.name));
  else name.textContent = said.what === "label" ? said.name : said.what === "skip" ? "cannot tell" : "left out";
  element.classList.toggle("two", "others" in tile);
  element.querySelector(".model").textContent = tile.others ?? (differs && view !== "label" ? `model: ${tile.name}` : "");
  element.classList.toggle("said", said !== null);
  element.classList.toggle("skip", said !== null && said.what === "skip");
  element.classList.toggle("drop", said !== null && said.what === "drop");
  element.classList.toggle("doubt", said === null && tile.correct !== null && tile.correct < DOUBT);
  element.querySelector(".share").textContent = tile.correct === null || (differs && view === "label") ? "" : percent(tile.correct);
  element.setAttribute("aria-selected", selected.has(tile.row));
  element.tabIndex = tile.row === cursor ? 0 : -1;
  const sure = tile.correct === null ? "" : `, ${percent(tile.correct)} sure`;
  const answer = said === null ? "" : said.what === "label" ? `, your answer: ${said.name}` : ", cannot tell";
  element.setAttribute("aria-label", `${tile.file}: ${tile.name ?? "no prediction"}${sure}${answer}`);
}

function loaded() {
  return [...elements.values()].every((element) => "done" in element.dataset || element.querySelector("img").complete);
}

let large = null; // the picture of the view of one image, kept as long as it is the same

function oneImage() {
  const order = inOrder();
  const tile = order.find((one) => one.row === cursor) ?? order[0];
  if (large === null || large.alt !== tile.file) {
    large = h("img", { src: `image/${tile.row}`, alt: tile.file });
    large.addEventListener("load", (event) => tiny(event.target));
  }
  const picture = large;
  const dot = h("i", { class: "dot" });
  dot.style.background = tile.name ? color(state.classes.indexOf(tile.name)) : "var(--soft)";
  const answer = tile.said === null ? tile.name ?? "?" : tile.said.what === "label" ? `✓ ${tile.said.name}` : "cannot tell";
  return h("div", { class: "one" }, picture,
    h("div", { class: "guess" }, dot, h("span", { class: "answer" }, answer), h("span", { class: "share" }, tile.correct === null ? "" : `${percent(tile.correct)} sure`)),
    h("div", { class: "strip", "aria-label": "Images of this grid" }, ...order.map((one, k) => h("button", {
      type: "button", class: one.said ? "said" : "", "aria-label": `Image ${k + 1} of ${order.length}`,
      "aria-current": one.row === tile.row ? "true" : false, onclick: () => { select(one.row); render(); } }))));
}

const PHASES = { starting: "Starting", encoding: "Looking at the images", training: "The model learns", choosing: "Choosing images", ready: "Ready", done: "Done", error: "Something went wrong" };

function emptiness() {
  const { phase, done, total, message } = state.status;
  if (phase === "done") {
    const budget = state.budget !== null && message.includes("budget");
    return h("div", { class: "empty" }, h("p", { class: "big" }, "Done"), h("p", {}, `${sentence(message)} Export saves the labels; Review shows what the model doubts.`),
      budget ? h("button", { type: "button", id: "more-budget", onclick: () => act("budget", { n: 100 }) }, "Label 100 more") : null);
  }
  if (phase === "error") {
    return h("div", { class: "empty" }, h("p", { class: "big" }, PHASES.error), h("p", {}, `${message}`), h("p", {}, "Your answers are saved."),
      h("button", { type: "button", id: "retry", onclick: () => act("retry") }, "Try again"));
  }
  const progress = h("progress", { "aria-label": PHASES[phase], max: total || null, value: total ? done : null });
  return h("div", { class: "empty" }, h("p", { class: "big" }, PHASES[phase]), progress, h("p", { class: "remaining" }, remaining()));
}

function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function remaining() {
  const { phase, done, total, expected, elapsed } = state.status;
  const counted = total ? `${done.toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
  if (!expected) return counted || (phase === "training" && elapsed > 3 ? `${Math.round(elapsed)} s so far; from the next time on it says how long` : "");
  const left = Math.max(0, expected - elapsed);
  const told = left < 1 ? "a moment" : left < 90 ? `about ${Math.ceil(left)} s` : left < 5400 ? `about ${Math.round(left / 60)} min` : `about ${(left / 3600).toFixed(1)} h`;
  return counted ? `${counted}, ${told} to go` : `${told} to go`;
}

function renderStatus() {
  const { phase, expected, elapsed, message } = state.status;
  const working = ["starting", "encoding", "training", "choosing"].includes(phase);
  const bar = $("bar");
  bar.hidden = !working;
  bar.classList.toggle("unknown", working && !expected);
  bar.firstElementChild.style.width = working && expected ? `${Math.min(97, (100 * elapsed) / expected)}%` : "";
  let text = "";
  if (view !== "label") text = [EXPLAINED[view], agreement()].filter(Boolean).join(" ");
  else if (working && state.grid) text = `${PHASES[phase]} in the background. ${remaining()}`;
  else if (phase === "error" && state.grid) text = `${PHASES.error}: ${message} Your answers are saved.`;
  else if (state.grid && state.grid.tiles.every((tile) => tile.name === null)) text = "There is no model yet: give each image a class.";
  else if (state.grid) text = single ? "Is that right? Confirm it, or give it another class." : "Correct the wrong ones, then confirm the rest.";
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").classList.toggle("error", phase === "error" && view === "label");
}

function renderHead() {
  if (!state) return;
  const left = waiting().length;
  const parts = [];
  if (view === "label") {
    const round = state.grid ? `Grid ${state.grid.number}` : "Label";
    parts.push(h("h1", {}, round), segments([["Grid", !single, () => setSingle(false)], ["One by one", single, () => setSingle(true)]]));
    if (state.grid) parts.push(confirmButton(left, left ? `Confirm ${left === tiles().length ? "all " : "the other "}${left}` : "Next"));
  } else if (view === "history") parts.push(h("h1", {}, "Answers"));
  else {
    parts.push(h("h1", {}, "Review"), segments([["Labels", view === "labels", () => setView("labels")], ["Predictions", view === "predictions", () => setView("predictions")],
      ...(state.disagreements || view === "disagreements" ? [[`Disagreements (${state.disagreements})`, view === "disagreements", () => setView("disagreements")]] : [])]));
    if (view === "predictions" && tiles().length) parts.push(confirmButton(left, left ? `Confirm the other ${left}` : "Next page"));
  }
  const head = $("head");
  const had = head.contains(document.activeElement) ? document.activeElement.textContent : null;
  head.replaceChildren(...parts);
  if (had !== null) [...head.querySelectorAll("button")].find((button) => button.textContent === had)?.focus();
}

function confirmButton(left, text) {
  const unknown = waiting().some((tile) => tile.name === null);
  const disabled = confirming || unknown || (!single && !loaded());
  return h("button", { type: "button", class: "primary", id: "confirm", disabled, onclick: () => (single && view === "label" ? confirmOne() : confirm()) },
    single && view === "label" ? "Confirm" : text, " ", h("kbd", {}, "Enter"));
}

function segments(entries) {
  return h("div", { class: "segments", role: "group" }, ...entries.map(([text, pressed, onclick]) => h("button", { type: "button", "aria-pressed": `${pressed}`, onclick }, text)));
}

function pager() {
  const more = looked.offset + looked.tiles.length < looked.total;
  return h("p", { class: "more" }, looked.offset ? h("button", { type: "button", id: "page-back", onclick: () => look(Math.max(0, looked.offset - PAGE)) }, "Back") : null, " ",
    more ? h("button", { type: "button", id: "page-on", onclick: () => look(looked.offset + PAGE) }, `More (${(looked.total - looked.offset - looked.tiles.length).toLocaleString("en")})`) : null);
}

// ---------------------------------------------------------------- the palette: classes for what is selected

function numbered() {
  if (few) return state.classes;
  const tile = tiles().find((one) => selected.has(one.row));
  const likely = tile && tile.guesses ? tile.guesses : [];
  return [...new Set([...likely, ...state.classes])].slice(0, 9);
}

function renderPalette() {
  const any = tiles().length > 0;
  $("palette").hidden = !any;
  if (!any) return;
  const names = numbered();
  const chips = $("chips");
  const key = `${names.join("\0")}\0${selected.size > 0}`;
  if (chips.dataset.key !== key) {
    chips.dataset.key = key;
    chips.replaceChildren(...names.map((name, k) => {
      const dot = h("i", { class: "dot" });
      dot.style.background = color(state.classes.indexOf(name));
      return h("button", { type: "button", disabled: !selected.size, onclick: () => give(name) }, k < 10 ? h("kbd", {}, `${(k + 1) % 10}`) : null, dot, h("span", { class: "name" }, name));
    }));
  }
  const some = tiles().filter((tile) => selected.has(tile.row));
  $("skip").disabled = $("zoom").disabled = !some.length;
  $("forget").hidden = !some.some((tile) => tile.said);
  $("name").placeholder = some.length ? `Type a class for ${some.length === 1 ? "the image" : `${some.length} images`}, or a new one` : "Select an image to correct it";
}

let picked = 0;

function matches() {
  const text = $("name").value.trim().toLowerCase();
  const likely = tiles().find((one) => selected.has(one.row))?.guesses ?? [];
  const all = text ? state.classes : [...new Set([...likely, ...state.classes])];
  const rank = (name) => (name.toLowerCase().startsWith(text) ? 0 : name.toLowerCase().split(/[\s_-]+/).some((word) => word.startsWith(text)) ? 1 : 2);
  const found = all.filter((name) => name.toLowerCase().includes(text)).map((name, k) => [rank(name), k, name]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((entry) => entry[2]);
  const entries = found.slice(0, 50).map((name) => ({ name, fresh: false }));
  if (text && !state.classes.some((name) => name.toLowerCase() === text)) entries.push({ name: $("name").value.trim(), fresh: true });
  return entries;
}

function renderMatches(open = true) {
  const list = $("matches");
  const entries = open ? matches() : [];
  picked = Math.min(picked, Math.max(0, entries.length - 1));
  list.replaceChildren(...entries.map((entry, k) => h("li", { role: "option", id: `match-${k}`, class: entry.fresh ? "new" : "", "aria-selected": `${k === picked}`,
    onmousedown: (event) => { event.preventDefault(); choose(entry); } }, entry.fresh ? `New class “${entry.name}”` : entry.name)));
  list.hidden = !entries.length;
  $("name").setAttribute("aria-expanded", `${entries.length > 0}`);
  if (entries.length) $("name").setAttribute("aria-activedescendant", `match-${picked}`);
  else $("name").removeAttribute("aria-activedescendant");
  list.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
}

async function choose(entry) {
  leaveInput();
  if (entry.fresh) {
    const rows = [...selected];
    const walked = walking;
    if (!(await act("class", { name: entry.name }))) return;
    select(...rows);
    walking = walked;
    give(state.classes[state.classes.length - 1]);
  } else give(entry.name);
}

function enterInput(text = "") {
  if (!tiles().length) return;
  if (!selected.size && cursor !== null) select(cursor);
  $("name").value = text;
  picked = 0;
  $("name").focus();
  renderMatches();
}

function leaveInput() {
  $("name").value = "";
  renderMatches(false);
  focusCursor(true);
}

$("name").addEventListener("input", () => { picked = 0; renderMatches(); });
$("name").addEventListener("focus", () => { if (!selected.size && cursor !== null) { select(cursor); render(); } renderMatches(); });
$("name").addEventListener("blur", () => renderMatches(false));
$("name").addEventListener("keydown", (event) => {
  const entries = matches();
  event.stopPropagation();
  if (event.isComposing) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    picked = (picked + (event.key === "ArrowDown" ? 1 : -1) + entries.length) % Math.max(1, entries.length);
    renderMatches();
  } else if (event.key === "Enter") {
    if (entries[picked]) choose(entries[picked]);
  } else if (event.key === "Escape" || (event.key === "Backspace" && !$("name").value)) leaveInput();
  else return;
  event.preventDefault();
});

// ---------------------------------------------------------------- gestures

function select(...rows) {
  walking = false;
  selected = new Set(rows);
  if (rows.length) cursor = anchor = rows[rows.length - 1];
}

/** The next image without an answer in the order of doubt, or the one before; null where there is none. */
function doubtful(step) {
  const order = inOrder().map((tile, k) => [tile.correct ?? 0, k, tile]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((entry) => entry[2]);
  let at = selected.size ? order.findIndex((tile) => tile.row === cursor) : step > 0 ? -1 : order.length;
  do at += step; while (order[at] && (order[at].said || selected.has(order[at].row)));
  return order[at] ?? null;
}

function jump(step) {
  const tile = doubtful(step);
  if (!tile) return;
  select(tile.row);
  walking = true;
  render();
  focusCursor(true);
}

function selectAll(some) {
  const open = some.filter((tile) => !tile.said);
  select(...(open.length ? open : some).map((tile) => tile.row));
  render();
  focusCursor(true);
}

function clicked(row, event) {
  if (event.shiftKey) extendTo(row);
  else if (event.ctrlKey || event.metaKey) {
    if (!selected.delete(row)) selected.add(row);
    walking = false;
    cursor = anchor = row;
  } else select(row);
  render();
}

function extendTo(row) {
  walking = false;
  const rows = inOrder().map((tile) => tile.row);
  const [from, to] = [rows.indexOf(anchor ?? row), rows.indexOf(row)].sort((a, b) => a - b);
  selected = new Set(rows.slice(from, to + 1));
  cursor = row;
}

/** The tile that an arrow leads to: the neighbor in the order, or the nearest one in the row above or below. */
function neighbor(key) {
  const rows = inOrder().map((tile) => tile.row);
  const at = rows.indexOf(cursor);
  if (at < 0) return rows[0];
  if (key === "ArrowLeft") return rows[Math.max(0, at - 1)];
  if (key === "ArrowRight") return rows[Math.min(rows.length - 1, at + 1)];
  if (single) return cursor;
  const place = (row) => elements.get(row).getBoundingClientRect();
  const here = place(cursor);
  const sign = key === "ArrowDown" ? 1 : -1;
  let best = null;
  for (const row of rows) {
    const there = place(row);
    const down = sign * (there.top - here.top);
    if (down < 2) continue;
    const far = down * 10 + Math.abs(there.left - here.left);
    if (best === null || far < best.far) best = { row, far };
  }
  return best ? best.row : cursor;
}

function focusCursor(force, scroll = force) {
  const element = elements.get(cursor);
  if (!element) return;
  const here = document.activeElement;
  if (force || here === $("work") || here === document.body || here === null || !here.isConnected) element.focus({ preventScroll: !scroll });
}

/** Back to the images: after a click on a button, keys are meant for them, and Enter must not press it again. */
function home() {
  if (document.querySelector("dialog[open]") || $("exports").open) return;
  (elements.get(cursor) ?? $("work")).focus({ preventScroll: true });
}

/** Say something of all selected images. */
function say(what, name = null) {
  const rows = [...selected];
  if (!rows.length) return;
  const answers = rows.map((row) => ({ row, what, name }));
  if (view !== "label") {
    for (const tile of looked.tiles) if (selected.has(tile.row)) tile.said = what === "forget" ? null : { what, name };
  }
  const moves = single && view === "label" && what !== "forget";
  act("say", { answers }).then((done) => {
    if (done && moves) onward();
    if (!done && view !== "label") look(looked.offset); // the answers that are kept, not those that were refused
  });
  if (moves) {
    const next = inOrder().find((tile) => !tile.said && !selected.has(tile.row));
    if (next) select(next.row);
  } else if (walking && what !== "forget") return jump(1);
  render();
}

const give = (name) => say("label", name);

/** In the view of one image: when all of the grid have an answer, go on to the next grid. */
function onward() {
  if (view === "label" && single && state.grid && !waiting().length) confirm();
}

function confirmOne() {
  const tile = tiles().find((one) => one.row === cursor);
  if (!tile) return;
  select(tile.row);
  if (!tile.said && tile.name !== null) give(tile.name);
  else {
    const next = inOrder().find((one) => !one.said);
    if (next) { select(next.row); render(); } else onward();
  }
}

function confirm() {
  if (confirming || $("confirm")?.disabled) return;
  if (view === "predictions") {
    const answers = waiting().map((tile) => ({ row: tile.row, what: "label", name: tile.name }));
    for (const tile of waiting()) tile.said = { what: "label", name: tile.name };
    if (answers.length) act("say", { answers });
    else look(looked.offset + looked.tiles.length < looked.total ? looked.offset + PAGE : looked.offset);
    return render();
  }
  if (view !== "label" || !state.grid) return;
  confirming = true;
  renderHead();
  act("confirm", { number: state.grid.number }).then(() => { confirming = false; renderHead(); });
}

async function undo() {
  if (!state.can_undo) return;
  await act("undo");
  if (view !== "label") look(looked.offset);
}

function zoom(row) {
  const tile = tiles().find((one) => one.row === row);
  if (!tile) return;
  const picture = $("zoomed").querySelector("img");
  picture.onload = () => tiny(picture);
  picture.src = `image/${row}`;
  picture.alt = tile.file;
  $("zoomed").querySelector("figcaption").textContent = tile.file;
  $("zoomed").showModal();
}

function setSingle(on) {
  single = on;
  shown = null;
  render();
}

async function setView(name) {
  view = name;
  looked = { tiles: [], total: 0, offset: 0, loading: true };
  shown = null;
  render();
  if (name !== "label") await look(0);
}

async function look(offset) {
  const wanted = view;
  try {
    const told = await ask(`api/tiles?kind=${wanted}&offset=${offset}&n=${PAGE}`);
    if (view !== wanted) return;
    looked = { ...told, offset };
  } catch (error) {
    looked = { tiles: [], total: 0, offset: 0 };
    toast(error.message);
  }
  shown = null;
  render();
}

document.addEventListener("keydown", (event) => {
  if (!state || event.isComposing || document.querySelector("dialog[open]")) {
    if (event.key === " " && $("zoomed").open) { event.preventDefault(); $("zoomed").close(); }
    return;
  }
  const command = event.ctrlKey || event.metaKey;
  if (command && event.key.toLowerCase() === "z") { event.preventDefault(); return void undo(); }
  if (command && event.key.toLowerCase() === "a" && tiles().length) { event.preventDefault(); return selectAll(tiles()); }
  if (command || event.altKey) return;
  const onButton = document.activeElement?.matches("button:not(.tile), summary, a, input");
  if ((event.key === "Enter" || event.key === " ") && onButton && document.activeElement.id !== "confirm") return;
  const index = "1234567890".indexOf(event.key);
  if (event.key.startsWith("Arrow")) {
    if (!tiles().length) return;
    const row = neighbor(event.key);
    if (event.shiftKey && !single) extendTo(row);
    else select(row);
    render();
    focusCursor(true);
  } else if (event.key === "Enter") (single && view === "label" ? confirmOne : confirm)();
  else if (event.key === " ") { if (cursor !== null) zoom(cursor); }
  else if (event.key === "Backspace") undo();
  else if (event.key === "Delete") say("forget");
  else if (event.key === "-") say("skip");
  else if (event.key === "+") enterInput();
  else if (event.key === "." || event.key === ",") jump(event.key === "." ? 1 : -1);
  else if (event.key === "/") { if (view === "label") setSingle(!single); }
  else if (event.key === "?") $("help").showModal();
  else if (event.key === "Escape") { selected = new Set(single && cursor !== null ? [cursor] : []); render(); }
  else if (index >= 0 && event.key.length === 1) { const name = numbered()[index]; if (name !== undefined) give(name); }
  else if (event.key.length === 1 && /\p{L}/u.test(event.key)) enterInput(event.key);
  else return;
  event.preventDefault();
});

// ---------------------------------------------------------------- the side panel

function renderPanel() {
  const most = Math.max(1, ...state.per_class);
  const order = state.classes.map((name, k) => k);
  if (order.length > FEW) order.sort((a, b) => state.per_class[b] - state.per_class[a] || a - b);
  const bars = order.map((k) => {
    const name = state.classes[k];
    const fill = h("i");
    fill.style.width = `${(100 * state.per_class[k]) / most}%`;
    fill.style.background = color(k);
    return h("div", {}, h("span", { class: "name", title: name }, name), h("span", { class: "track" }, fill), h("span", { class: "n" }, `${state.per_class[k]}`));
  });
  const aside = state.skipped + state.dropped;
  const budget = state.budget === null ? "" : ` of ${state.budget.toLocaleString("en")} planned`;
  keep("classes", h("div", { class: "figure" }, state.labeled.toLocaleString("en")),
    h("p", { class: "note" }, `labels${budget}${aside ? `, ${aside} set aside` : ""}`), h("div", { class: "bars" }, ...bars));
  renderAccuracy();
  renderStop();
  $("unreadable").hidden = !state.unreadable.n;
  if (state.unreadable.n) {
    $("unreadable").lastElementChild.replaceChildren(h("p", {}, `${state.unreadable.n} ${state.unreadable.n === 1 ? "file" : "files"} could not be read.`),
      h("ul", { class: "files" }, ...state.unreadable.files.map(([file, reason]) => h("li", { title: reason }, file))));
  }
}

function keep(id, ...children) {
  const box = $(id);
  const top = box.querySelector(".bars")?.scrollTop ?? 0;
  const open = box.querySelector("details")?.open;
  box.replaceChildren(...children);
  if (top) box.querySelector(".bars").scrollTop = top;
  if (open) box.querySelector("details").open = true;
}

function renderAccuracy() {
  const told = state.rounds.filter((r) => r.estimated_accuracy !== null);
  if (!told.length) return keep("accuracy", h("p", { class: "note" }, "The first estimate comes with the model."));
  const { n_random, random_agree, low, high } = state.all;
  const { n, agree } = state.recent;
  const parts = [h("div", { class: "figure" }, percent(told[told.length - 1].estimated_accuracy)),
    h("p", { class: "note" }, "of the images without a label, by its own estimate"), accuracyPlot(state.rounds, state.checks, state.all)];
  if (n_random) {
    parts.push(h("p", {}, h("b", {}, `${random_agree} of ${n_random}`), ` random images right (95% interval ${percent(low)} to ${percent(high)})`));
  }
  if (n) parts.push(h("p", {}, h("b", {}, `${agree} of ${n}`), " chosen images right in the last grids"));
  parts.push(h("details", {}, h("summary", {}, "What these mean"),
    h("p", { class: "note" }, "Line: the mean of P(correct), what the model thinks of itself; it may be too high or too low. Circles and band: some images of each grid are drawn at random from those without a label; on them the model is a fair sample of what it was then, over all grids so far. Chosen images are harder than average, so it looks worse there than it is. You see its guess before you answer, which makes agreement look a little better.")));
  keep("accuracy", ...parts);
}

function renderStop() {
  const kappas = state.rounds.map((r) => r.kappa).filter((kappa) => kappa !== null);
  const parts = [];
  if (state.stop_reason) parts.push(h("p", {}, sentence(state.stop_reason)));
  else if (kappas.length) parts.push(h("p", {}, "Go on: the last labels still changed what the model says."));
  else parts.push(h("p", {}, "A few grids are needed before this can be said."));
  if (kappas.length) parts.push(h("p", { class: "note" }, `The predictions of the last two rounds agree with kappa ${kappas[kappas.length - 1].toFixed(3)}. From 0.99 on, three rounds in a row, more labels change little. This does not say that they are right.`));
  keep("stop", ...parts);
}

// ---------------------------------------------------------------- the rest

function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

document.querySelectorAll("nav button").forEach((button) => button.addEventListener("click", () => setView(button.dataset.view)));
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", () => say("skip"));
$("forget").addEventListener("click", () => say("forget"));
$("zoom").addEventListener("click", () => { if (cursor !== null) zoom(cursor); });
$("help-button").addEventListener("click", () => $("help").showModal());
document.querySelectorAll("dialog").forEach((dialog) => {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => focusCursor(true));
});
document.addEventListener("click", (event) => {
  if (event.detail > 0 && event.target.closest("nav button, .actions > button, .head button, .palette button, .strip button, .more button")) setTimeout(home);
});
document.addEventListener("click", (event) => { if (!$("exports").contains(event.target)) $("exports").open = false; });

async function showExports() {
  const formats = await ask("api/formats");
  $("exports").querySelector(".menu-body").replaceChildren(...formats.map(({ name, title }) => h("a", { href: `api/export/${name}`, download: true, onclick: () => { $("exports").open = false; } }, title)));
}

setInterval(() => {
  if (state === null || !["starting", "encoding", "training", "choosing"].includes(state.status.phase)) return;
  state.status.elapsed += 0.25;
  renderStatus();
  const told = $("content").querySelector(".remaining");
  if (told && told.textContent !== remaining()) told.textContent = remaining();
}, 250);

showExports().catch(() => {});
listen();
