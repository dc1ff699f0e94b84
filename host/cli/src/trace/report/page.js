"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const CLASSES = [
    ["handled", "handled"],
    ["kernel", "left to KVM"],
    ["fault", "fault"],
    ["failed", "plugin failed"],
    ["stop", "ended the run"],
  ];

  // A name, not an address; the browser knows it without looking.
  const SVG = "http://www.w3.org/2000/svg";

  // Elements. Text goes in as text only: a recording may be anybody's file.
  function element(name, attributes = {}, text = undefined) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function shape(parent, name, attributes = {}, text = undefined) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  // Numbers for people.
  const count = (n) => n.toLocaleString("en-GB");
  const accesses = (n) => (n === 1 ? "1 access" : `${count(n)} accesses`);
  function time(ns, more = 0) {
    const [unit, size] = ns < 1e3 ? ["ns", 1] : ns < 1e6 ? ["µs", 1e3] : ns < 1e9 ? ["ms", 1e6] : ["s", 1e9];
    const n = ns / size;
    const digits = size === 1 ? 0 : Math.max(0, (n < 10 ? 2 : n < 100 ? 1 : 0) + more);
    return `${(Math.floor(n * 10 ** digits) / 10 ** digits).toFixed(digits)} ${unit}`;
  }
  const moment = (t) => `${(Math.floor(t / 1e3) / 1e6).toFixed(6)} s`;

  // Theme.
  const theme = $("theme");
  const root = document.documentElement;
  function setTheme(name) {
    if (name) root.dataset.theme = name;
    else delete root.dataset.theme;
  }
  try {
    theme.value = localStorage.getItem("wasmsr-theme") || "";
  } catch {
    // A browser may keep nothing for local files.
  }
  setTheme(theme.value);
  theme.addEventListener("change", () => {
    setTheme(theme.value);
    try {
      localStorage.setItem("wasmsr-theme", theme.value);
    } catch {
      // As above.
    }
  });

  for (const part of document.querySelectorAll(".js")) part.hidden = false;

  // Headers that sort, with a button each.
  function makeSortable(table, sort) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.tagName !== "TH") return;
      const button = element("button", { type: "button" }, head.textContent);
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("n");
        const now = head.getAttribute("aria-sort");
        const next = now ? (now === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", next);
        sort(column, next === "ascending" ? 1 : -1);
      });
    });
  }
  const order = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
  for (const table of document.querySelectorAll("table.sortable")) {
    makeSortable(table, (column, sign) => {
      const value = (row) => {
        const cell = row.cells[column];
        return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
      };
      const rows = [...table.tBodies[0].rows].map((row) => [value(row), row]);
      rows.sort((a, b) => sign * order(a[0], b[0]));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  }

  // A round number of at least this.
  function rounded(n) {
    const power = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
    return [1, 2, 4, 6, 8, 10].map((m) => m * power).find((m) => m >= n);
  }

  // A chart's frame: sizes, a grid and its numbers.
  function frame(box, top) {
    const width = Math.max(box.clientWidth, 280);
    const height = 208;
    const area = { left: 52, right: width - 10, top: 32, bottom: height - 26 };
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-hidden", "true");
    const y = (n) => area.bottom - (n / top) * (area.bottom - area.top);
    for (const n of top >= 4 ? [0, top / 4, top / 2, (top * 3) / 4, top] : [0, top]) {
      const at = y(n);
      shape(svg, "line", { x1: area.left, x2: area.right, y1: at, y2: at, class: n ? "grid" : "axis" });
      shape(svg, "text", { x: area.left - 6, y: at + 4, "text-anchor": "end" }, n >= 1e6 ? `${n / 1e6} M` : n >= 1e4 ? `${n / 1e3} k` : String(Math.round(n * 100) / 100));
    }
    return { svg, area, y };
  }

  // The timeline.
  const { width: step, columns } = data.timeline;
  const timeline = $("timeline");
  const whole = { from: 0, to: Math.max(columns.length, 1) };
  let view = whole;
  let cursor = 0;
  let selection = null;
  let anchor = null;
  let drawn = null;

  for (const [index, [name, words]] of CLASSES.entries()) {
    const sum = columns.reduce((sum, column) => sum + column[index], 0);
    if (sum === 0) continue;
    const item = element("li");
    const key = document.createElementNS(SVG, "svg");
    key.setAttribute("viewBox", "0 0 10 10");
    key.setAttribute("aria-hidden", "true");
    shape(key, "rect", { width: 10, height: 10, rx: 2, class: `c-${name}` });
    item.append(key, `${words} ${count(sum)}`);
    $("legend").append(item);
    $("outcome").append(element("option", { value: name }, words));
  }

  // Columns of the data that one bar shows.
  function bars() {
    const room = Math.max(40, Math.floor((timeline.clientWidth - 62) / 5));
    const each = Math.max(1, Math.ceil((view.to - view.from) / room));
    const made = [];
    for (let from = view.from; from < view.to; from += each) {
      const to = Math.min(from + each, view.to);
      const sums = CLASSES.map((_, index) => {
        let sum = 0;
        for (let i = from; i < to; i += 1) sum += columns[i] ? columns[i][index] : 0;
        return sum;
      });
      made.push({ from, to, sums, all: sums.reduce((a, b) => a + b, 0) });
    }
    return made;
  }

  function drawTimeline() {
    const shown = bars();
    cursor = Math.min(cursor, shown.length - 1);
    const top = rounded(Math.max(1, ...shown.map((bar) => bar.all)));
    const { svg, area, y } = frame(timeline, top);
    const x = (column) => area.left + ((column - view.from) / (view.to - view.from)) * (area.right - area.left);
    for (const bar of shown) {
      let below = 0;
      const left = x(bar.from);
      const wide = Math.max(1, x(bar.to) - left - (shown.length > 200 ? 0.5 : 1));
      bar.sums.forEach((sum, index) => {
        if (!sum) return;
        // Rare ones are the ones to be seen.
        const high = Math.max(index > 1 ? 3 : 0.75, area.bottom - y(sum));
        shape(svg, "rect", { x: left, width: wide, y: area.bottom - below - high, height: high, class: `c-${CLASSES[index][0]}` });
        below += high;
      });
    }
    const mark = (t, line, name, words, y) => {
      const at = x(t / step);
      if (at < area.left - 1 || at > area.right + 1) return;
      shape(svg, "line", { x1: at, x2: at, y1: y - 9, y2: area.bottom, class: line });
      const end = at > (area.left + area.right) / 2;
      shape(svg, "text", { x: at + (end ? -4 : 4), y, "text-anchor": end ? "end" : "start", class: name }, words);
    };
    for (const [t, boot] of data.boots.slice(0, 40)) if (data.boots.length > 1) mark(t, "event", "", `boot ${boot}`, 11);
    for (const [t, lines] of data.gaps.slice(0, 40)) mark(t, "gap", "gap-name", `${count(lines)} missing`, 25);
    const ticks = area.right - area.left < 480 ? 2 : 5;
    for (let i = 0; i <= ticks; i += 1) {
      const column = view.from + ((view.to - view.from) * i) / ticks;
      const anchor = i === 0 ? "start" : i === ticks ? "end" : "middle";
      shape(svg, "text", { x: x(column), y: area.bottom + 17, "text-anchor": anchor }, time(column * step, 1));
    }
    if (selection) {
      const left = Math.max(area.left, x(selection.from));
      const right = Math.min(area.right, x(selection.to));
      if (right > left) shape(svg, "rect", { x: left, width: right - left, y: area.top, height: area.bottom - area.top, class: "selection" });
    }
    const line = shape(svg, "line", { y1: area.top, y2: area.bottom, class: "cursor" });
    timeline.replaceChildren(svg);
    drawn = { shown, area, line, x };
    timeline.setAttribute("aria-valuemin", "0");
    timeline.setAttribute("aria-valuemax", String(Math.max(shown.length - 1, 0)));
    $("zoom-in").disabled = !selection;
    $("select-none").disabled = !selection;
    $("zoom-out").disabled = view === whole;
    point();
  }

  function described(bar) {
    const parts = CLASSES.map(([, words], index) => [words, bar.sums[index]]).filter(([, sum]) => sum);
    const sums = parts.length > 1 ? `: ${parts.map(([words, sum]) => `${count(sum)} ${words}`).join(", ")}` : "";
    return `${moment(bar.from * step)} to ${moment(bar.to * step)}, ${accesses(bar.all)}${sums}`;
  }

  function point() {
    const bar = drawn.shown[cursor];
    if (!bar) return;
    const at = (drawn.x(bar.from) + drawn.x(bar.to)) / 2;
    drawn.line.setAttribute("x1", at);
    drawn.line.setAttribute("x2", at);
    timeline.setAttribute("aria-valuenow", String(cursor));
    timeline.setAttribute("aria-valuetext", described(bar));
    $("timeline-reading").textContent = described(bar);
  }

  function select(one, other) {
    const [from, to] = one.from < other.from ? [one.from, other.to] : [other.from, one.to];
    selection = { from, to };
    drawTimeline();
    pick();
  }
  function selectNone() {
    selection = null;
    anchor = null;
    drawTimeline();
    pick();
  }
  function zoom(to) {
    view = to;
    anchor = null;
    cursor = 0;
    drawTimeline();
  }
  $("zoom-in").addEventListener("click", () => {
    if (!selection) return;
    zoom({ ...selection });
    timeline.focus();
  });
  $("zoom-out").addEventListener("click", () => {
    zoom(whole);
    timeline.focus();
  });
  $("select-none").addEventListener("click", () => {
    selectNone();
    timeline.focus();
  });

  const MOVES = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
  timeline.addEventListener("keydown", (event) => {
    const last = drawn.shown.length - 1;
    if (event.key in MOVES) {
      if (event.shiftKey && anchor === null) anchor = cursor;
      if (!event.shiftKey) anchor = null;
      cursor = Math.min(last, Math.max(0, cursor + MOVES[event.key]));
      if (anchor === null) point();
      else select(drawn.shown[anchor], drawn.shown[cursor]);
    } else if (event.key === "Enter" && selection) zoom({ ...selection });
    else if (event.key === "Escape" && selection && view === whole) selectNone();
    else if (event.key === "Escape" && view !== whole) zoom(whole);
    else return;
    event.preventDefault();
  });
  const barAt = (event) => {
    const box = timeline.getBoundingClientRect();
    const part = (event.clientX - box.left - drawn.area.left) / (drawn.area.right - drawn.area.left);
    return Math.min(drawn.shown.length - 1, Math.max(0, Math.floor(part * drawn.shown.length)));
  };
  timeline.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    timeline.setPointerCapture(event.pointerId);
    cursor = barAt(event);
    anchor = cursor;
    point();
  });
  timeline.addEventListener("pointermove", (event) => {
    const bar = barAt(event);
    if (bar === cursor) return;
    cursor = bar;
    if (event.buttons & 1 && anchor !== null) select(drawn.shown[anchor], drawn.shown[cursor]);
    else point();
  });
  timeline.addEventListener("pointerup", () => {
    anchor = null;
  });

  // How long accesses took.
  const latency = $("latency");
  let bucket = 0;
  let drawnLatency = null;
  const groups = new Map();
  data.latency.forEach((series, index) => {
    let parent = $("latency-of");
    if (series.group) {
      if (!groups.has(series.group)) {
        const made = element("optgroup", { label: series.group });
        groups.set(series.group, made);
        parent.append(made);
      }
      parent = groups.get(series.group);
    }
    parent.append(element("option", { value: String(index) }, series.label));
  });
  const edge = (quarter) => 2 ** (quarter / 4);

  function drawLatency() {
    const series = data.latency[Number($("latency-of").value)] || data.latency[0];
    $("latency-sum").textContent = series.count
      ? `${accesses(series.count)}: mean ${time(series.mean)}, p50 ${time(series.p50)}, p99 ${time(series.p99)}, longest ${time(series.max)}`
      : "no accesses";
    const counts = new Map(series.buckets);
    const low = series.buckets.length ? series.buckets[0][0] : 0;
    const high = series.buckets.length ? series.buckets[series.buckets.length - 1][0] : 0;
    const from = Math.min(low, Math.max(0, high - 12));
    const shown = [];
    for (let quarter = from; quarter <= high; quarter += 1) shown.push({ quarter, count: counts.get(quarter) || 0 });
    bucket = Math.min(bucket, shown.length - 1);
    const { svg, area, y } = frame(latency, rounded(Math.max(1, ...shown.map((one) => one.count))));
    const x = (quarter) => area.left + ((quarter - from) / shown.length) * (area.right - area.left);
    for (const one of shown) {
      if (!one.count) continue;
      const tall = Math.max(1.5, area.bottom - y(one.count));
      shape(svg, "rect", { x: x(one.quarter) + 0.5, width: Math.max(1, x(one.quarter + 1) - x(one.quarter) - 1), y: area.bottom - tall, height: tall, class: "c-handled" });
    }
    const every = Math.max(4, Math.ceil((shown.length * 64) / (area.right - area.left) / 4) * 4);
    for (let quarter = Math.ceil(from / 4) * 4; quarter <= high; quarter += every) {
      const anchor = x(quarter) < area.left + 20 ? "start" : x(quarter) > area.right - 30 ? "end" : "middle";
      shape(svg, "text", { x: x(quarter), y: area.bottom + 17, "text-anchor": anchor }, time(Math.round(edge(quarter))));
    }
    if (series.count) {
      [["p50", series.p50], ["p99", series.p99]].forEach(([words, ns], index) => {
        const at = Math.min(area.right, Math.max(area.left, x(4 * Math.log2(Math.max(ns, 1)))));
        shape(svg, "line", { x1: at, x2: at, y1: 16, y2: area.bottom, class: "event" });
        shape(svg, "text", { x: at + (index ? 4 : -4), y: 12, "text-anchor": index ? "start" : "end" }, words);
      });
    }
    const line = shape(svg, "line", { y1: area.top, y2: area.bottom, class: "cursor" });
    latency.replaceChildren(svg);
    latency.setAttribute("aria-valuemin", "0");
    latency.setAttribute("aria-valuemax", String(Math.max(shown.length - 1, 0)));
    drawnLatency = { shown, area, line, x };
    pointLatency();
  }
  function pointLatency() {
    const one = drawnLatency.shown[bucket];
    if (!one) return;
    const at = (drawnLatency.x(one.quarter) + drawnLatency.x(one.quarter + 1)) / 2;
    drawnLatency.line.setAttribute("x1", at);
    drawnLatency.line.setAttribute("x2", at);
    const words = `${time(Math.round(edge(one.quarter)))} to ${time(Math.round(edge(one.quarter + 1)))}, ${accesses(one.count)}`;
    latency.setAttribute("aria-valuenow", String(bucket));
    latency.setAttribute("aria-valuetext", words);
    $("latency-reading").textContent = words;
  }
  latency.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES)) return;
    bucket = Math.min(drawnLatency.shown.length - 1, Math.max(0, bucket + MOVES[event.key]));
    pointLatency();
    event.preventDefault();
  });
  latency.addEventListener("pointermove", (event) => {
    const box = latency.getBoundingClientRect();
    const { area, shown } = drawnLatency;
    const part = (event.clientX - box.left - area.left) / (area.right - area.left);
    bucket = Math.min(shown.length - 1, Math.max(0, Math.floor(part * shown.length)));
    pointLatency();
  });
  $("latency-of").addEventListener("change", () => {
    bucket = 0;
    drawLatency();
  });

  // The table of accesses.
  const PAGE = 100;
  const words = Object.fromEntries(CLASSES);
  const rows = data.rows.map(([t, boot, vcpu, msr, name, op, value, outcome, plugin, ns]) => ({
    t,
    outcome,
    keys: [t, boot, vcpu, Number(msr), name || "", op, value === null ? -1n : BigInt(value), words[outcome], plugin || "", ns],
    cells: [moment(t), String(boot), String(vcpu), msr, name || "–", op, value === null ? "–" : value, words[outcome], plugin || "(policy)", time(ns)],
  }));
  for (const row of rows) row.text = row.cells.join(" ").toLowerCase();
  const numeric = new Set([0, 1, 2, 9]);
  let picked = rows;
  let sorting = { column: 0, sign: 1 };
  let page = 0;

  function pick() {
    const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const outcome = $("outcome").value;
    picked = rows.filter(
      (row) =>
        (!outcome || row.outcome === outcome) &&
        (!selection || (row.t >= selection.from * step && row.t < selection.to * step)) &&
        wanted.every((word) => row.text.includes(word)),
    );
    const { column, sign } = sorting;
    const before = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    picked.sort((a, b) => sign * before(a.keys[column], b.keys[column]) || before(a.t, b.t));
    page = 0;
    drawRows();
  }
  function drawRows() {
    const pages = Math.max(1, Math.ceil(picked.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const body = $("accesses").tBodies[0];
    body.replaceChildren(
      ...picked.slice(page * PAGE, (page + 1) * PAGE).map((row) => {
        const made = element("tr");
        row.cells.forEach((text, column) => {
          const cell = element("td", numeric.has(column) ? { class: "n" } : {});
          if (column === 7) cell.append(element("span", { class: `mark ${row.outcome}` }, text));
          else if (column === 3 || column === 6) cell.append(element("code", {}, text));
          else cell.textContent = text;
          made.append(cell);
        });
        return made;
      }),
    );
    const sample = data.stride > 1 ? ` (one of ${data.stride} of the recording)` : "";
    const within = selection ? `, from ${moment(selection.from * step)} to ${moment(selection.to * step)}` : "";
    $("accesses-count").textContent = `${count(picked.length)} of ${accesses(rows.length)}${sample}${within}`;
    $("page-of").textContent = `Page ${count(page + 1)} of ${count(pages)}`;
    for (const id of ["page-first", "page-before"]) $(id).disabled = page === 0;
    for (const id of ["page-next", "page-last"]) $(id).disabled = page === pages - 1;
  }
  makeSortable($("accesses"), (column, sign) => {
    sorting = { column, sign };
    pick();
  });
  $("search").addEventListener("input", pick);
  $("outcome").addEventListener("change", pick);
  const turns = { "page-first": () => 0, "page-before": () => page - 1, "page-next": () => page + 1, "page-last": () => Infinity };
  for (const [id, turn] of Object.entries(turns)) {
    $(id).addEventListener("click", () => {
      page = turn();
      drawRows();
    });
  }

  drawTimeline();
  drawLatency();
  pick();
  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => {
      drawTimeline();
      drawLatency();
    });
  });
})();
