/** The program of a report's page: draws its charts and its map, and shows what the pointer is at. */

/**
 * @typedef {{name: string, x: number[], y: number[], low?: number[], high?: number[], color: number, reference?: boolean}} Series
 * @typedef {{key: string, title: string, unit: string, labels?: string[], series: Series[]}} Chart
 * @typedef {{points: [number, number][], names: string[], labels: number[], classes: string[], columns: number}} Plane
 */

{
  const Plot = uPlot; // inlined before this program

  /** @type {{charts: Chart[], map?: Plane}} */
  const data = JSON.parse(element(document, "#data").textContent ?? "");

  /**
   * @param {ParentNode} parent
   * @param {string} selector
   * @returns {HTMLElement}
   */
  function element(parent, selector) {
    const found = parent.querySelector(selector);
    if (!(found instanceof HTMLElement)) throw new Error(`no ${selector}`);
    return found;
  }

  /** Of the style sheet, for light or dark. @param {string} name */
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** Colours that can be told apart by most people; beyond them, steps around the circle. @param {number} i */
  const colorOf = (i) => (i < 10 ? color(`--series-${i}`) : `hsl(${(i * 137.5) % 360} 65% 55%)`);

  /** Of a hue's own, see through. @param {string} hue */
  const faint = (hue) => `color-mix(in srgb, ${hue} 22%, transparent)`;

  /** An axis with a name at each whole number, aslant where many would run into each other. @param {string[]} labels */
  const axisOf = (labels) => ({
    size: labels.length > 5 ? 58 : 28,
    rotate: labels.length > 5 ? -45 : 0,
    splits: () => labels.map((_, i) => i),
    values: () => labels,
  });

  /** @param {number | null | undefined} value */
  const shown = (value) => (value == null ? "–" : `${Number(value.toPrecision(5))}`);

  /**
   * Of the values shown, a little more; of many, without the few most extreme: a run's first steps would press the others
   * flat.
   * @param {import("uplot/dist/uPlot")} plot
   * @param {number | null} least
   * @param {number | null} most
   * @returns {[number, number]}
   */
  function rangeOf(plot, least, most) {
    if (least == null || most == null) return [0, 1];
    const [from, to] = plot.series[0]?.idxs ?? [0, 0];
    const values = plot.data
      .slice(1)
      .flatMap((series) => [...series].slice(from, to + 1).filter((value) => value != null))
      .sort((a, b) => a - b);
    const cut = values.length < 100 ? 0 : Math.ceil(values.length / 200);
    const [low, high] = [values[cut] ?? least, values[values.length - 1 - cut] ?? most];
    const margin = 0.06 * (high - low) || Math.abs(high) / 10 || 1;
    return [low >= 0 && low < margin ? 0 : low - margin, high + margin];
  }

  /**
   * In the colours of now.
   * @param {HTMLElement} figure
   * @param {Chart} chart
   * @returns {() => void} which takes it away again
   */
  function draw(figure, chart) {
    const place = element(figure, ".plot");
    const { labels } = chart;
    /** @type {import("uplot/dist/uPlot").Band[]} */
    const bands = [];
    /** @type {(Series & {isEnd?: boolean})[]} */
    const lines = [];
    for (const series of chart.series) {
      lines.push(series);
      const { low, high, color: own } = series;
      if (!low || !high) continue;
      // The ends of an interval are series too: the legend tells their values, and a band lies between them.
      lines.push(
        { ...series, name: "from", y: low, isEnd: true },
        { ...series, name: "to", y: high, isEnd: true },
      );
      bands.push({ series: [lines.length, lines.length - 1], fill: faint(colorOf(own)) });
    }
    /** @type {import("uplot/dist/uPlot").AlignedData[]} */
    const tables = lines.map(({ x, y }) => [x, y]);
    const axis = {
      stroke: color("--soft"),
      font: "11px system-ui, sans-serif",
      grid: { stroke: color("--grid"), width: 1 },
      ticks: { stroke: color("--grid"), width: 1, size: 4 },
    };
    const size = () => ({ width: Math.max(200, place.clientWidth), height: 200 });
    const plot = new Plot(
      {
        ...size(),
        scales: {
          x: { time: false, ...(labels && { range: [-0.4, labels.length - 0.6] }) },
          y: { range: rangeOf },
        },
        cursor: { ...(!labels && { sync: { key: "epochs" } }), points: { size: 7 } },
        axes: [
          labels ? { ...axis, ...axisOf(labels) } : { ...axis, size: 28 },
          { ...axis, size: 56, values: (_, splits) => splits.map(shown) },
        ],
        bands,
        series: [
          labels
            ? { label: "layer", value: (_, value) => labels[value ?? -1] ?? "–" }
            : { label: "epoch", value: (_, value) => shown(value) },
          ...lines.map(({ name, x, color: own, reference, isEnd }) => ({
            label: name,
            stroke: reference ? color("--soft") : colorOf(own),
            width: isEnd ? 0 : 1.5,
            spanGaps: true,
            // Few values are points as well: kNN once an epoch.
            points: { show: !reference && !isEnd && x.length <= 40, size: 5 },
            ...(reference && { dash: [5, 5] }),
            /** @param {unknown} _ @param {number | null} value */
            value: (_, value) => shown(value),
          })),
        ],
      },
      Plot.join(tables),
      place,
    );
    const observer = new ResizeObserver(() => {
      if (plot.width !== size().width) plot.setSize(size());
    });
    observer.observe(place);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }

  /** @type {(() => void)[]} */
  const drawn = [];
  function drawCharts() {
    for (const remove of drawn.splice(0)) remove();
    for (const figure of document.querySelectorAll("[data-chart]")) {
      const chart = data.charts[Number(figure.getAttribute("data-chart"))];
      if (chart && figure instanceof HTMLElement) drawn.push(draw(figure, chart));
    }
  }

  /** Around the points, pixels. */
  const MARGIN = 14;
  /** Pixels within which an image is pointed at. */
  const REACH = 14;

  /** @param {Plane} plane @returns {() => void} which draws it anew */
  function openMap({ points, names, labels, classes, columns }) {
    const place = element(document, ".map");
    const canvas = /** @type {HTMLCanvasElement} */ (element(place, "canvas"));
    const tip = element(place, ".tip");
    /** The class that is chosen in the legend. @type {number | undefined} */
    let only;
    /** @type {number | undefined} */
    let at;

    /** Pixels of the canvas's style. @param {number} i @returns {[number, number]} */
    function pixelsOf(i) {
      const { clientWidth: width, clientHeight: height } = canvas;
      const [x, y] = points[i] ?? [0, 0];
      return [MARGIN + x * (width - 2 * MARGIN), MARGIN + y * (height - 2 * MARGIN)];
    }

    function paint() {
      const ratio = devicePixelRatio || 1;
      canvas.width = canvas.clientWidth * ratio;
      canvas.height = canvas.clientHeight * ratio;
      const context = canvas.getContext("2d");
      if (!context) return;
      context.scale(ratio, ratio);
      const colors = Array.from({ length: Math.max(1, classes.length) }, (_, i) => colorOf(i));
      points.forEach((_, i) => {
        const label = labels[i] ?? 0;
        const [x, y] = pixelsOf(i);
        context.globalAlpha = only === undefined ? 0.85 : label === only ? 1 : 0.12;
        context.fillStyle = colors[label] ?? "";
        context.beginPath();
        context.arc(x, y, points.length > 400 ? 3.2 : 4.5, 0, 2 * Math.PI);
        context.fill();
      });
      if (at === undefined) return;
      const [x, y] = pixelsOf(at);
      context.globalAlpha = 1;
      context.lineWidth = 2;
      context.strokeStyle = color("--ink");
      context.beginPath();
      context.arc(x, y, 7, 0, 2 * Math.PI);
      context.stroke();
    }

    /** @param {PointerEvent} event */
    function point(event) {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let best = REACH;
      at = undefined;
      points.forEach((_, i) => {
        if (only !== undefined && labels[i] !== only) return;
        const [px, py] = pixelsOf(i);
        const far = Math.hypot(px - x, py - y);
        if (far < best) [best, at] = [far, i];
      });
      tip.hidden = at === undefined;
      if (at !== undefined) {
        const thumbnail = element(tip, ".cell");
        thumbnail.style.setProperty("--x", `${at % columns}`);
        thumbnail.style.setProperty("--y", `${Math.floor(at / columns)}`);
        element(tip, ".name").textContent = names[at] ?? "";
        element(tip, ".class").textContent = classes[labels[at] ?? -1] ?? "";
        const [px, py] = pixelsOf(at);
        const right = px > canvas.clientWidth / 2;
        tip.style.left = right ? "" : `${px + 12}px`;
        tip.style.right = right ? `${canvas.clientWidth - px + 12}px` : "";
        tip.style.top = `${Math.max(0, Math.min(py - 20, canvas.clientHeight - tip.offsetHeight))}px`;
      }
      paint();
    }
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("pointerleave", () => {
      at = undefined;
      tip.hidden = true;
      paint();
    });

    const legend = element(document, ".classes");
    const swatches = classes.map((name, i) => {
      const button = document.createElement("button");
      const swatch = document.createElement("i");
      const text = document.createElement("bdi");
      text.textContent = name;
      button.append(swatch, text);
      button.addEventListener("click", () => {
        only = only === i ? undefined : i;
        for (const other of legend.querySelectorAll("button"))
          other.setAttribute("aria-pressed", `${other === button && only === i}`);
        paint();
      });
      const item = document.createElement("li");
      item.append(button);
      legend.append(item);
      return swatch;
    });
    new ResizeObserver(paint).observe(canvas);
    return () => {
      swatches.forEach((swatch, i) => {
        swatch.style.background = colorOf(i);
      });
      paint();
    };
  }

  const drawMap = data.map && openMap(data.map);
  const drawAll = () => {
    drawCharts();
    drawMap?.();
  };
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
}
