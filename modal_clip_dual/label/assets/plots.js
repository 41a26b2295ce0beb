// The plots of the side panel, as SVG; nothing here knows of the server.

const SVG = "http://www.w3.org/2000/svg";

function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function percent(share, digits = 0) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}%`;
}

/** Evenly told colors: the golden angle keeps neighbors apart. */
export function color(k) {
  return `hsl(${Math.round((k * 137.508 + 225) % 360)} 62% 55%)`;
}

/** What the model thinks of itself, by the number of labels: a line, with its interval where it tells one; and how often it was right on random images:
 *  a point per grid in which there were some, with the interval of all of them together as a band. */
export function accuracyPlot(rounds, checks, all) {
  const told = rounds.filter((r) => r.estimated_accuracy !== null);
  const W = 286, H = 120, left = 36, right = 6, top = 6, bottom = 20;
  const most = Math.max(...rounds.map((r) => r.n_labels));
  const last = Math.max(1, most);
  const x = (n) => left + ((W - left - right) * n) / last;
  const y = (share) => top + (H - top - bottom) * (1 - share);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    parts.push(s("line", { x1: left, x2: W - right, y1: y(share), y2: y(share), stroke: "var(--line)" }));
    parts.push(s("text", { x: left - 5, y: y(share) + 3.5, "text-anchor": "end" }, percent(share)));
  }
  if (all.low !== null) {
    parts.push(s("rect", { x: left, width: W - left - right, y: y(all.high), height: y(all.low) - y(all.high),
      fill: "var(--good)", opacity: 0.14 }));
  }
  for (const r of told) {
    if (!r.accuracy_interval) continue;
    const [low, high] = r.accuracy_interval;
    parts.push(s("line", { x1: x(r.n_labels), x2: x(r.n_labels), y1: y(low), y2: y(high), stroke: "var(--accent)", opacity: 0.45, "stroke-width": 2 }));
  }
  const points = told.map((r) => `${x(r.n_labels).toFixed(1)},${y(r.estimated_accuracy).toFixed(1)}`);
  if (points.length > 1) {
    parts.push(s("polyline", { points: points.join(" "), fill: "none", stroke: "var(--accent)", "stroke-width": 2 }));
  }
  for (const r of told) parts.push(s("circle", { cx: x(r.n_labels), cy: y(r.estimated_accuracy), r: 2.6, fill: "var(--accent)" }));
  const labels = new Map(rounds.map((r) => [r.round, r.n_labels]));
  for (const c of checks) {
    if (!c.n_random || !labels.has(c.round)) continue;
    parts.push(s("circle", { cx: x(labels.get(c.round)), cy: y(c.random_agree / c.n_random), r: 2.6, fill: "none",
      stroke: "var(--good)", "stroke-width": 1.6 }));
  }
  parts.push(s("text", { x: left, y: H - 5 }, "0"));
  parts.push(s("text", { x: W - right, y: H - 5, "text-anchor": "end" }, `${most} labels`));
  const figure = s("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" }, ...parts);
  const newest = told.length ? percent(told[told.length - 1].estimated_accuracy) : "nothing yet";
  figure.setAttribute("aria-label", `Estimated accuracy by number of labels; now ${newest}`);
  return figure;
}
