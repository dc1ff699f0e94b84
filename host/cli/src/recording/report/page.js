"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  // In the order of the columns' counts.
  const OUTCOMES = ["value", "ok", "kernel", "fault", "failed", "stop"];

  // A name, not an address; the browser knows it without looking.
  const SVG = "http://www.w3.org/2000/svg";

  // Elements. Text goes in as text only: a recording may come from anywhere.
  function filled(made, attributes, text) {
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const element = (name, attributes = {}, text = undefined) => filled(document.createElement(name), attributes, text);
  function shape(parent, name, attributes = {}, text = undefined) {
    const made = filled(document.createElementNS(SVG, name), attributes, text);
    parent.append(made);
    return made;
  }

  // Numbers for people.
  const count = (n) => n.toLocaleString("en-GB");
  const accesses = (n) => (n === 1 ? "1 access" : `${count(n)} accesses`);
  const UNITS = [["ns", 1], ["µs", 1e3], ["ms", 1e6], ["s", 1e9]];
  const unitOf = (ns) => UNITS.findLast(([, size]) => ns >= size) || UNITS[0];
  // Three digits, the rest cut off, as the rest of the page has it.
  function time(ns) {
    const [unit, size] = unitOf(ns);
    const whole = Math.floor(ns / size);
    const digits = size === 1 ? 0 : whole < 10 ? 2 : whole < 100 ? 1 : 0;
    return `${(Math.floor((ns * 10 ** digits) / size) / 10 ** digits).toFixed(digits)} ${unit}`;
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

  // The round number, 1, 2 or 5 with zeros, that is at least this.
  function rounded(n) {
    const power = 10 ** Math.floor(Math.log10(n));
    return [1, 2, 5, 10].map((m) => m * power).find((m) => m >= n * 0.999999);
  }

  // A chart's frame: sizes, a grid with numbers, and what the axes are.
  function frame(box, most, titles, lanes = 0) {
    const width = Math.max(box.clientWidth, 260);
    const area = { left: 56, right: width - 8, top: 52, bottom: 196 };
    const height = area.bottom + lanes * 14 + 40;
    const svg = filled(document.createElementNS(SVG, "svg"), { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    const each = rounded(Math.max(1, most / 4));
    const top = Math.max(1, Math.ceil(most / each)) * each;
    const y = (n) => area.bottom - (n / top) * (area.bottom - area.top);
    const size = top >= 1e6 ? [1e6, " M"] : top >= 1e4 ? [1e3, " k"] : [1, ""];
    for (let n = 0; n <= top; n += each) {
      shape(svg, "line", { x1: area.left, x2: area.right, y1: y(n), y2: y(n), class: n ? "grid" : "axis" });
      shape(svg, "text", { x: area.left - 7, y: y(n) + 4, "text-anchor": "end" }, `${Number((n / size[0]).toPrecision(6))}${n ? size[1] : ""}`);
    }
    shape(svg, "text", { x: 0, y: 12, class: "title" }, titles.y);
    shape(svg, "text", { x: area.right, y: height - 4, "text-anchor": "end", class: "title" }, titles.x);
    return { svg, area, y, ticks: area.bottom + lanes * 14 + 18 };
  }
  // Text at a line, on the side of it that has more room.
  const wide = (words) => words.length * 6.6 + 8;
  function label(svg, area, at, y, words, name) {
    const left = at > (area.left + area.right) / 2;
    shape(svg, "text", { x: at + (left ? -5 : 5), y, "text-anchor": left ? "end" : "start", class: name }, words);
    return left ? [at - wide(words), at] : [at, at + wide(words)];
  }

  // The timeline.
  const { start, width: step, columns } = data.timeline;
  const timeline = $("timeline");
  const whole = { from: 0, to: Math.max(columns.length, Math.ceil((data.end - start + 1) / step), 1) };
  const at = (column) => start + column * step;
  const sums = OUTCOMES.map((_, index) => columns.reduce((sum, column) => sum + column[index], 0));
  // Too rare to be seen among the others: each has a lane below.
  const lanes = [3, 4, 5].filter((index) => sums[index]);
  let view = whole;
  let cursor = 0;
  let selection = null;
  let anchor = null;
  let drawn = null;

  function symbol(svg, index, x, y) {
    const name = OUTCOMES[index];
    if (name === "fault") shape(svg, "circle", { cx: x, cy: y, r: 3.5, class: "c-fault" });
    else if (name === "failed") shape(svg, "path", { d: `M${x - 4.5} ${y + 4}h9l-4.5 -8.5z`, class: "c-failed" });
    else if (name === "stop") shape(svg, "path", { d: `M${x} ${y - 5}l5 5l-5 5l-5 -5z`, class: "c-stop" });
    else shape(svg, "rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9, rx: 2, class: `c-${name}` });
  }
  for (const [index, name] of OUTCOMES.entries()) {
    if (sums[index] === 0) continue;
    const item = element("li");
    const key = filled(document.createElementNS(SVG, "svg"), { viewBox: "0 0 12 12", "aria-hidden": "true" });
    symbol(key, index, 6, 6);
    item.append(key, `${name} ${count(sums[index])}`);
    $("legend").append(item);
    $("outcome").append(element("option", { value: name }, name));
  }

  // Columns of the data that one bar shows.
  function bars() {
    const room = Math.max(40, Math.floor((timeline.clientWidth - 64) / 5));
    const each = Math.max(1, Math.ceil((view.to - view.from) / room));
    const made = [];
    for (let from = view.from; from < view.to; from += each) {
      const to = Math.min(from + each, view.to);
      const sums = OUTCOMES.map((_, index) => columns.slice(from, to).reduce((sum, column) => sum + column[index], 0));
      made.push({ from, to, sums, all: sums.reduce((a, b) => a + b, 0) });
    }
    return { shown: made, each };
  }

  function drawTimeline() {
    const { shown, each } = bars();
    cursor = Math.min(cursor, shown.length - 1);
    const tick = rounded((at(view.to) - at(view.from)) / (timeline.clientWidth < 560 ? 4 : 8));
    const [unit, size] = unitOf(at(view.to));
    const titles = { y: `accesses in ${time(each * step)}`, x: `time since the recording began, in ${unit}` };
    const { svg, area, y, ticks } = frame(timeline, Math.max(1, ...shown.map((bar) => bar.all)), titles, lanes.length);
    const x = (column) => area.left + ((column - view.from) / (view.to - view.from)) * (area.right - area.left);
    for (const bar of shown) {
      let below = 0;
      const left = x(bar.from);
      const width = Math.max(1, x(bar.to) - left - (shown.length > 200 ? 0.5 : 1));
      bar.sums.forEach((sum, index) => {
        if (!sum) return;
        shape(svg, "rect", { x: left, width, y: y(below + sum), height: y(below) - y(below + sum), class: `c-${OUTCOMES[index]}` });
        below += sum;
      });
      lanes.forEach((index, lane) => {
        if (bar.sums[index]) symbol(svg, index, left + width / 2, area.bottom + 10 + lane * 14);
      });
    }
    // Boots and gaps: each has its line, and a name where there is room for one.
    const mark = (list, line, name, y, words) => {
      const places = list.map(([t, n]) => [x((t - start) / step), n]);
      const shown = places.filter(([place]) => place > area.left - 1 && place < area.right + 1);
      for (const [place] of shown) shape(svg, "line", { x1: place, x2: place, y1: y - 9, y2: area.bottom, class: line });
      let free = -Infinity;
      for (const [place, n] of shown) {
        const left = place > (area.left + area.right) / 2;
        if ((left ? place - wide(words(n)) : place) < free) continue;
        free = label(svg, area, place, y, words(n), name)[1];
      }
    };
    if (data.boots.length > 1) mark(data.boots, "event", "", 28, (boot) => `boot ${boot}`);
    mark(data.gaps, "gap", "gap-name", 43, (lines) => `${count(lines)} missing`);
    const digits = Math.max(0, -Math.floor(Math.log10(tick / size) + 1e-9));
    for (let t = Math.ceil(at(view.from) / tick) * tick; t <= at(view.to) && tick >= 1; t += tick) {
      const place = x((t - start) / step);
      const anchor = place > area.right - 20 ? "end" : "middle";
      shape(svg, "line", { x1: place, x2: place, y1: ticks - 14, y2: ticks - 10, class: "axis" });
      shape(svg, "text", { x: place, y: ticks, "text-anchor": anchor }, (t / size).toFixed(digits));
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
    const within = ([t]) => t >= at(bar.from) && t < at(bar.to);
    const parts = OUTCOMES.map((name, index) => [name, bar.sums[index]]).filter(([, sum]) => sum);
    const sums = parts.length > 1 ? `: ${parts.map(([name, sum]) => `${name} ${count(sum)}`).join(", ")}` : "";
    const marks = [
      ...data.boots.filter(within).map(([, boot]) => `boot ${boot} begins`),
      ...data.gaps.filter(within).map(([, lines]) => `${count(lines)} missing`),
    ];
    return [`${moment(at(bar.from))} to ${moment(at(bar.to))}, ${accesses(bar.all)}${sums}`, ...marks.slice(0, 4)].join("; ");
  }

  function point() {
    const bar = drawn.shown[cursor];
    if (!bar) return;
    const place = (drawn.x(bar.from) + drawn.x(bar.to)) / 2;
    drawn.line.setAttribute("x1", place);
    drawn.line.setAttribute("x2", place);
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
  // What is disabled loses the focus; the chart goes on from there.
  const buttons = { "zoom-in": () => selection && zoom({ ...selection }), "zoom-out": () => zoom(whole), "select-none": selectNone };
  for (const [id, act] of Object.entries(buttons)) {
    $(id).addEventListener("click", () => {
      act();
      timeline.focus();
    });
  }

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
  const barAt = (box, event, { area, shown }) => {
    const part = (event.clientX - box.getBoundingClientRect().left - area.left) / (area.right - area.left);
    return Math.min(shown.length - 1, Math.max(0, Math.floor(part * shown.length)));
  };
  timeline.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    timeline.setPointerCapture(event.pointerId);
    cursor = barAt(timeline, event, drawn);
    anchor = cursor;
    point();
  });
  timeline.addEventListener("pointermove", (event) => {
    const bar = barAt(timeline, event, drawn);
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
    $("latency-sum").textContent = `${accesses(series.count)}: mean ${time(series.mean)}, p50 ${time(series.p50)}, p99 ${time(series.p99)}, longest ${time(series.max)}`;
    const counts = new Map(series.buckets);
    const low = series.buckets.length ? series.buckets[0][0] : 0;
    const high = series.buckets.length ? series.buckets[series.buckets.length - 1][0] : 0;
    const from = Math.min(low, Math.max(0, high - 12));
    const shown = [];
    for (let quarter = from; quarter <= high; quarter += 1) shown.push({ quarter, count: counts.get(quarter) || 0 });
    bucket = Math.min(bucket, shown.length - 1);
    const titles = { y: "accesses", x: "time of an access, logarithmic" };
    const { svg, area, y, ticks } = frame(latency, Math.max(1, ...shown.map((one) => one.count)), titles);
    const x = (quarter) => area.left + ((quarter - from) / shown.length) * (area.right - area.left);
    for (const one of shown) {
      if (!one.count) continue;
      const width = Math.max(1, x(one.quarter + 1) - x(one.quarter) - 1);
      shape(svg, "rect", { x: x(one.quarter) + 0.5, width, y: y(one.count), height: area.bottom - y(one.count), class: "c-value" });
    }
    let free = -Infinity;
    for (let power = 1; power <= edge(high + 1); power *= 10) {
      for (const ns of [power, 2 * power, 5 * power]) {
        const place = x(4 * Math.log2(ns));
        if (place < area.left - 0.5 || place > area.right) continue;
        const [unit, size] = unitOf(ns);
        const words = `${ns / size} ${unit}`;
        shape(svg, "line", { x1: place, x2: place, y1: ticks - 14, y2: ticks - 10, class: "axis" });
        const half = wide(words) / 2;
        if (place - half < free || place + half > area.right + 8) continue;
        shape(svg, "text", { x: place, y: ticks, "text-anchor": "middle" }, words);
        free = place + half;
      }
    }
    if (series.count) {
      [["p50", series.p50, 28], ["p99", series.p99, 43]].forEach(([words, ns, y]) => {
        const place = Math.min(area.right, Math.max(area.left, x(4 * Math.log2(Math.max(ns, 1)))));
        shape(svg, "line", { x1: place, x2: place, y1: y - 9, y2: area.bottom, class: "event" });
        label(svg, area, place, y, `${words} ${time(ns)}`, "");
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
    const place = (drawnLatency.x(one.quarter) + drawnLatency.x(one.quarter + 1)) / 2;
    drawnLatency.line.setAttribute("x1", place);
    drawnLatency.line.setAttribute("x2", place);
    const words = `${time(Math.ceil(edge(one.quarter)))} to ${time(Math.ceil(edge(one.quarter + 1)))}, ${accesses(one.count)}`;
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
    bucket = barAt(latency, event, drawnLatency);
    pointLatency();
  });
  $("latency-of").addEventListener("change", () => {
    bucket = 0;
    drawLatency();
  });

  // The table of accesses.
  const PAGE = 100;
  const rows = data.rows.map(([t, boot, vcpu, msr, name, op, value, outcome, plugin, ns]) => ({
    t,
    outcome,
    keys: [t, boot, vcpu, Number(msr), name || "", op, value === null ? -1n : BigInt(value), outcome, plugin || "", ns],
    cells: [moment(t), String(boot), String(vcpu), msr, name || "–", op, value === null ? "–" : value, outcome, plugin || "(policy)", time(ns)],
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
        (!selection || (row.t >= at(selection.from) && row.t < at(selection.to))) &&
        wanted.every((word) => row.text.includes(word)),
    );
    const { column, sign } = sorting;
    const before = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    picked.sort((a, b) => sign * before(a.keys[column], b.keys[column]) || before(a.t, b.t));
    page = 0;
    drawRows();
  }
  const pages = () => Math.max(1, Math.ceil(picked.length / PAGE));
  function drawRows() {
    page = Math.min(Math.max(page, 0), pages() - 1);
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
    body.closest(".scroll").scrollTop = 0;
    const sampled = data.sampled ? ` (${data.sampled})` : "";
    const within = selection ? `, from ${moment(at(selection.from))} to ${moment(at(selection.to))}` : "";
    $("accesses-count").textContent = `${count(picked.length)} of ${accesses(rows.length)}${sampled}${within}`;
    $("pages").hidden = pages() === 1;
    $("page-of").textContent = `Page ${count(page + 1)} of ${count(pages())}`;
    // Not `disabled`: a disabled button would lose the focus.
    for (const id of ["page-first", "page-before"]) $(id).setAttribute("aria-disabled", String(page === 0));
    for (const id of ["page-next", "page-last"]) $(id).setAttribute("aria-disabled", String(page === pages() - 1));
  }
  makeSortable($("accesses"), (column, sign) => {
    sorting = { column, sign };
    pick();
  });
  $("search").addEventListener("input", pick);
  $("outcome").addEventListener("change", pick);
  const turns = { "page-first": () => 0, "page-before": () => page - 1, "page-next": () => page + 1, "page-last": () => pages() - 1 };
  for (const [id, turn] of Object.entries(turns)) {
    $(id).addEventListener("click", () => {
      page = turn();
      drawRows();
    });
  }

  // Without an access there is nothing to draw.
  const draw = () => {
    if (!rows.length) return;
    drawTimeline();
    drawLatency();
  };
  for (const part of document.querySelectorAll(".drawn")) part.hidden = !rows.length;
  for (const part of document.querySelectorAll(".undrawn")) part.hidden = Boolean(rows.length);
  draw();
  pick();
  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(draw);
  });
})();
