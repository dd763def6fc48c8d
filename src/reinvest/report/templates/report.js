"use strict";
(() => {
  const root = document.documentElement;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const pictures = read("pictures");
  const narrow = window.matchMedia("(max-width: 40rem)");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const config = { responsive: true, displayModeBar: false };

  // Storage may be forbidden for a local file; the choice then lasts as long as the page is open.
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("reinvest-theme", value);
      return localStorage.getItem("reinvest-theme");
    } catch {
      return null;
    }
  };
  const chosen = remembered();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  const theme = () => root.dataset.theme || (system.matches ? "dark" : "light");

  function picture(name, dark, small) {
    const { data, layout, dark: changes } = structuredClone(pictures[name]);
    const figure = { data, layout };
    if (dark) {
      for (const [path, , value] of changes) {
        const last = path.pop();
        path.reduce((at, key) => at[key], figure)[last] = value;
      }
    }
    layout.uirevision = "kept";
    if (touch) layout.dragmode = false;
    if (small) shrink(layout, name);
    if (small && name === "speedup") {
      for (const { marker } of data) if (marker) marker.size *= 0.72;
    }
    return figure;
  }

  function shrink(layout, name) {
    layout.margin = { ...layout.margin, l: 38, r: 10 };
    layout.font.size = 12;
    layout.legend.font.size = 12;
    if (name === "quality") layout.height = 470;
    if (layout.meta && layout.meta.narrow) layout.yaxis.ticktext = layout.meta.narrow;
    const axis = layout.xaxis;
    if (axis.tickvals && axis.tickvals.length > 5) {
      const one = Math.max(0, axis.tickvals.indexOf(1));
      const keep = (_, i) => (i - one) % 2 === 0;
      axis.ticktext = axis.ticktext.filter(keep);
      axis.tickvals = axis.tickvals.filter(keep);
    }
  }

  const names = Object.keys(pictures);
  const place = (name) => document.getElementById("plot-" + name);

  async function draw() {
    const dark = theme() === "dark";
    const button = document.getElementById("theme");
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
    await Promise.all(names.map((name) => {
      const { data, layout } = picture(name, dark, narrow.matches);
      // Said by the page too: a picture that is drawn anew for a narrower window would have none.
      place(name).style.height = layout.height + "px";
      return Plotly.react(place(name), data, layout, config);
    }));
  }

  // On paper the pictures are images: light, as wide as the page, whatever the screen shows.
  async function prepareForPaper() {
    for (const name of names) {
      const { data, layout } = picture(name, false, false);
      const drawn = data.filter((trace) => trace.visible !== "legendonly");
      layout.height = name === "quality" ? 365 : Math.round(0.8 * layout.height);
      const size = { format: "svg", width: 720, height: Math.min(layout.height, 940) };
      document.getElementById("print-" + name).src = await Plotly.toImage({ data: drawn, layout }, size);
    }
  }

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    remembered(root.dataset.theme);
    draw();
  });
  system.addEventListener("change", draw);
  narrow.addEventListener("change", draw);

  const folded = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = folded();
    opened.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((element) => { element.open = false; }));

  async function copy(text) {
    if (navigator.clipboard) {
      try {
        await navigator.clipboard.writeText(text);
        return;
      } catch {
        // Refused for a file opened from disk in some browsers: the older way below needs no permission.
      }
    }
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      await copy(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
  document.getElementById("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(read("result"), null, 1) + "\n"], { type: "application/json" }));
    link.download = "report.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });

  draw().then(prepareForPaper).then(() => { root.dataset.ready = "true"; });
})();
