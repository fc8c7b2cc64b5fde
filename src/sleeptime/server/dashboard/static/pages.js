// Draws the charts, and shows what a note rests on.
"use strict";
(() => {
  // Numbers as words.py writes them.
  const scaled = (value) => {
    const size = Math.abs(value);
    for (const [least, divisor, unit] of [[1e9, 1e9, "G"], [1e6, 1e6, "M"], [1e4, 1e3, "k"]]) {
      if (size >= least * 0.99995) {
        const part = size / divisor;
        return `${part.toFixed(part < 10 ? 2 : part < 100 ? 1 : 0)} ${unit}`;
      }
    }
    return size >= 100 || Number.isInteger(size) ? Math.round(size).toLocaleString("en") : size.toPrecision(2);
  };
  const money = (value) => {
    const size = Math.abs(value);
    if (size >= 1000) return `$${Math.round(size).toLocaleString("en")}`;
    if (size >= 0.0995 || size === 0) return `$${size.toFixed(2)}`;
    return `$${Number(size.toPrecision(2))}`;
  };
  const amount = (value, unit) => `${value < 0 ? "−" : ""}${unit === "usd" ? money(value) : scaled(value)}`;
  const told = (value, unit) => amount(value, unit) + (unit === "usd" ? "" : " tokens");

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const translucent = (hex, share) => hex + Math.round(share * 255).toString(16).padStart(2, "0");
  const moment = (seconds, step) => {
    const date = new Date(seconds * 1000);
    const day = date.toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" });
    const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
    return step >= 86400 ? day : `${day}, ${time} UTC`;
  };

  const FONT = '12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif';
  const HEIGHT = 190;

  const axes = (data) => [
    {
      font: FONT, stroke: colour("muted"), grid: { show: false }, ticks: { show: false }, size: 32, gap: 8, space: 80,
      values: (plot, marks, _axis, _space, step) => marks.map((mark, index) => {
        const date = new Date(mark * 1000);
        const day = date.toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" });
        const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
        return step >= 86400 || time === "00:00" || (index === 0 && data.step_s >= 86400) ? day : time;
      }),
    },
    {
      font: FONT, stroke: colour("muted"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false },
      size: 66, space: 42, values: (_plot, marks) => marks.map((mark) => amount(mark, data.unit)),
    },
  ];

  const options = (width, data, more) => ({
    width, height: HEIGHT, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    legend: { show: false }, padding: [10, 20, 0, 0], axes: axes(data),
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } }, ...more,
  });

  // Bars stand on one another: each series is drawn from the sum of those below it.
  const bars = (place, data, read) => {
    const sums = [];
    let below = data.at.map(() => 0);
    for (const each of data.series) {
      below = below.map((sum, index) => sum + each.values[index]);
      sums.push(below);
    }
    const order = data.series.map((_, index) => index).reverse();
    const half = data.step_s / 2;
    const at = data.at.map((start) => start + half);
    const first = at[0], last = at[at.length - 1];
    const span = Math.max(last - first, data.step_s * 6);
    return new uPlot(options(place.clientWidth, data, {
      scales: {
        x: { time: true, range: () => [last - span - half, last + half] },
        y: { range: (_plot, _low, high) => [0, (high || 1) * 1.08] },
      },
      series: [{}, ...order.map((index) => ({
        fill: colour(data.series[index].colour), stroke: colour(data.series[index].colour), width: 0,
        paths: uPlot.paths.bars({ size: [0.72, 28], gap: 1 }), points: { show: false },
      }))],
      hooks: { setCursor: [(plot) => {
        const index = plot.cursor.idx;
        if (index == null) { read.textContent = data.says; return; }
        const parts = data.series.filter((each) => each.values[index])
          .map((each) => `${each.label} ${told(each.values[index], data.unit)}`);
        read.textContent = `${moment(data.at[index], data.step_s)}: ${parts.join(" · ") || "nothing"}`;
      }] },
    }), [at, ...order.map((index) => sums[index])], place);
  };

  // What was saved against break-even, with its interval.
  const net = (place, data, read) => {
    const [value, low, high] = data.series.map((each) => each.values);
    const blue = colour("sleep");
    return new uPlot(options(place.clientWidth, data, {
      scales: {
        x: { time: true },
        y: { range: (_plot, least, most) => {
          const bottom = Math.min(0, least), top = Math.max(0, most);
          const room = (top - bottom || 1) * 0.12;
          return [bottom < 0 ? bottom - room : -room * 0.6, top + room];
        } },
      },
      series: [
        {},
        { stroke: "transparent", points: { show: false } },
        { stroke: "transparent", points: { show: false } },
        { stroke: blue, width: 2, points: { show: data.at.length < 3, size: 6, fill: blue } },
      ],
      bands: [{ series: [1, 2], fill: translucent(blue, 0.16) }],
      hooks: {
        drawAxes: [(plot) => {
          const y = Math.round(plot.valToPos(0, "y", true)), { left, width } = plot.bbox, context = plot.ctx;
          context.save();
          context.strokeStyle = colour("no-sleep");
          context.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
          context.lineWidth = devicePixelRatio;
          context.beginPath();
          context.moveTo(left, y);
          context.lineTo(left + width, y);
          context.stroke();
          context.fillStyle = colour("no-sleep");
          context.font = FONT.replace("12px", `${12 * devicePixelRatio}px`);
          context.textAlign = "right";
          context.textBaseline = "bottom";
          context.fillText("break-even", left + width, y - 4 * devicePixelRatio);
          context.restore();
        }],
        setCursor: [(plot) => {
          const index = plot.cursor.idx;
          if (index == null) { read.textContent = data.says; return; }
          const between = high[index] > low[index]
            ? ` (95 %: ${told(low[index], data.unit)} to ${told(high[index], data.unit)})` : "";
          read.textContent = `${moment(data.at[index], data.step_s)}: ${told(value[index], data.unit)}${between}`;
        }],
      },
    }), [data.at, high, low, value], place);
  };

  const drawn = new Map();
  const draw = (figure) => {
    const place = figure.querySelector(".plot"), data = JSON.parse(figure.dataset.chart);
    drawn.get(figure)?.destroy();
    drawn.set(figure, (data.kind === "net" ? net : bars)(place, data, figure.querySelector(".read")));
  };
  const figures = document.querySelectorAll("figure.chart");
  figures.forEach((figure) => {
    draw(figure);
    let width = figure.clientWidth;
    new ResizeObserver(() => {
      if (figure.clientWidth === width) return;
      width = figure.clientWidth;
      drawn.get(figure).setSize({ width: figure.querySelector(".plot").clientWidth, height: HEIGHT });
    }).observe(figure);
  });
  const redraw = () => figures.forEach(draw);
  document.addEventListener("theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // Notes and their evidence.
  const pane = document.getElementById("pane"), cards = document.getElementById("cards");
  if (pane && cards) {
    const marks = (id) => pane.querySelectorAll(`mark[data-notes~="${CSS.escape(id)}"]`);
    const light = (id, isLit) => {
      marks(id).forEach((mark) => mark.classList.toggle("lit", isLit));
      const card = cards.querySelector(`[data-note="${CSS.escape(id)}"]`);
      if (card?.hasAttribute("data-all")) pane.classList.toggle("lit", isLit);
      return card;
    };
    const reveal = (id) => {
      const first = marks(id)[0];
      if (!first) return;
      const inside = first.getBoundingClientRect(), around = pane.getBoundingClientRect();
      if (inside.top < around.top || inside.bottom > around.bottom) {
        pane.scrollTop += inside.top - around.top - pane.clientHeight / 3;
      }
    };
    let shown = null;
    const show = (id) => {
      if (shown !== null && shown !== id) light(shown, false);
      shown = id;
      if (id !== null) { light(id, true); reveal(id); }
    };
    const noteOf = (element) => element.closest?.("[data-note]")?.dataset.note ?? null;
    cards.addEventListener("mouseover", (event) => show(noteOf(event.target)));
    cards.addEventListener("mouseleave", () => show(noteOf(document.activeElement)));
    cards.addEventListener("focusin", (event) => show(noteOf(event.target)));
    cards.addEventListener("focusout", (event) => { if (!cards.contains(event.relatedTarget)) show(null); });
    cards.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      const all = [...cards.querySelectorAll("[data-note]")];
      const next = all[all.indexOf(event.target.closest("[data-note]")) + step];
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
    const lightNotes = (event, isLit) => event.target.dataset?.notes?.split(" ").forEach((id) => {
      cards.querySelector(`[data-note="${CSS.escape(id)}"]`)?.classList.toggle("lit", isLit);
    });
    pane.addEventListener("mouseover", (event) => lightNotes(event, true));
    pane.addEventListener("mouseout", (event) => lightNotes(event, false));
    if (location.hash.startsWith("#note-")) document.getElementById(location.hash.slice(1))?.focus();
  }
})();
