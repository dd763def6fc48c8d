"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("result").textContent);
  const rows = data.suspects;
  const kinds = Object.keys(data.kinds);
  const list = at("list");
  const pane = at("rows");
  const blank = at("row").content.firstElementChild;
  const AROUND = 6;
  const ON_PAPER = 60;
  const PER_CHUNK = data.pictures_per_chunk;
  const SVG = "http://www.w3.org/2000/svg";

  const name = (label) => (label < 0 ? "no label" : data.class_names ? data.class_names[label] : "class " + label);
  const share = (value) => (value === null ? "–" : (100 * value).toFixed(value > 0.995 && value < 1 ? 1 : 0) + " %");

  // Losses come as one byte an epoch on a scale of log(1 + loss); pictures as text, parsed a chunk at a time when needed.
  const bytes = Uint8Array.from(atob(data.losses), (c) => c.charCodeAt(0));
  const chunks = new Map();
  function picture(i) {
    const chunk = Math.floor(i / PER_CHUNK);
    if (!chunks.has(chunk)) chunks.set(chunk, JSON.parse(at("look-" + chunk).textContent));
    return chunks.get(chunk)[i % PER_CHUNK];
  }

  // ---- one row ---------------------------------------------------------------------------------------------------

  const HIGH = data.answers === null ? 56 : 48;
  const x = (k) => (220 * k) / Math.max(1, data.points - 1);
  const y = (level) => 2 + (HIGH - 4) * (1 - level / 254);
  const line = (levels) => {
    let path = "";
    let pen = "M";
    levels.forEach((level, k) => {
      if (level === 255 || level === null) return;
      path += pen + x(k).toFixed(1) + " " + y(level).toFixed(1);
      pen = "L";
    });
    return path;
  };
  const drawn = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  function area({ low, high }) {
    const known = low.map((_, k) => k).filter((k) => low[k] !== null);
    const along = (levels) => (k) => x(k).toFixed(1) + " " + y(levels[k]).toFixed(1);
    const there = known.map(along(low));
    return known.length ? "M" + [...there, ...known.reverse().map(along(high))].join("L") + "Z" : "";
  }
  const background = data.bands.flatMap((band, k) => [
    { d: area(band), class: "band b" + k },
    { d: line(band.middle), class: "middle b" + k },
  ]);

  const ANSWERS = { g: "given", s: "other", o: "else" };
  function spark(svg, i) {
    for (const shape of background) svg.append(drawn("path", shape));
    const own = [...bytes.subarray(i * data.points, (i + 1) * data.points)];
    svg.append(drawn("path", { d: line(own), class: "own" }));
    if (data.answers !== null) {
      const said = data.answers[i];
      const width = 220 / said.length;
      for (let from = 0, to; from < said.length; from = to) {
        for (to = from + 1; to < said.length && said[to] === said[from]; to += 1);
        const kind = ANSWERS[said[from]];
        if (kind) svg.append(drawn("rect", { x: (from * width).toFixed(1), y: 52, width: ((to - from) * width).toFixed(1), height: 7, class: kind }));
      }
    }
    svg.setAttribute("aria-label", "loss over " + data.epochs + " epochs, mean " + rows.mean_loss[i]);
  }

  function facts(i) {
    const learned = rows.learned[i];
    const sure = rows.probability[i];
    const twins = rows.twins[i];
    const found = [["rank " + rows.score[i].toFixed(4), sure === null ? "" : ", probability " + (sure > 0.995 ? "> 99 %" : share(sure))]];
    if (rows.suggested[i] >= 0) found.push(["", "said in " + share(rows.share[i]) + " of epochs"]);
    if (data.labelled) found.push(["", learned === null ? "never learned" : "learned in epoch " + learned + (rows.forgotten[i] ? ", forgotten " + rows.forgotten[i] + "x" : "")]);
    found.push(["", "loss " + Number(rows.mean_loss[i].toPrecision(3)) + ", above " + share(rows.percentile[i]) + (data.labelled ? " of label" : " of all")]);
    // The place is that of the least telling line, so that a row keeps its height.
    if (twins.length) found.splice(1, found.length > 3 ? 1 : 0, ["same as ", twins.slice(0, 4).join(", ") + (twins.length > 4 ? ", …" : "")]);
    return found;
  }

  function made(i) {
    const row = blank.cloneNode(true);
    const part = (selector) => row.querySelector(selector);
    if (data.pictures) {
      [picture(i)].flat().forEach((code, k) => {
        const look = document.createElement(code ? "img" : "div");
        if (code) {
          look.decoding = "async";
          look.loading = "lazy";
          look.alt = (k ? "labels of example " : "example ") + rows.id[i];
          look.src = "data:image/png;base64," + code;
        } else look.className = "none";
        part(".look").append(look);
      });
    } else if (data.texts) {
      part(".look").textContent = data.texts[i];
      part(".look").title = data.texts[i];
    }
    part(".given").textContent = name(rows.label[i]);
    if (rows.suggested[i] >= 0) part(".suggested").textContent = name(rows.suggested[i]);
    else part(".arrow").remove();
    if (!data.labelled) part(".labels").remove();
    part(".kind").textContent = kinds[rows.kind[i]];
    part(".id").textContent = "id " + rows.id[i];
    spark(part(".spark"), i);
    for (const [strong, more] of facts(i)) {
      const fact = part(".facts").appendChild(document.createElement("div"));
      fact.appendChild(document.createElement("b")).textContent = strong;
      fact.append(more);
    }
    return row;
  }

  // ---- the list: only rows in sight, and a few around them, are in the document --------------------------------------

  let chosen = [];
  const shown = new Map();
  const height = () => parseFloat(getComputedStyle(list).getPropertyValue("--row"));

  function fill() {
    const tall = height();
    const first = Math.max(0, Math.floor(list.scrollTop / tall) - AROUND);
    const last = Math.min(chosen.length, Math.ceil((list.scrollTop + list.clientHeight) / tall) + AROUND);
    for (const [place, row] of shown) {
      if (place >= first && place < last) continue;
      row.remove();
      shown.delete(place);
    }
    for (let place = first; place < last; place += 1) {
      if (shown.has(place)) continue;
      const row = made(chosen[place]);
      row.style.top = place * tall + "px";
      row.setAttribute("aria-posinset", place + 1);
      row.setAttribute("aria-setsize", chosen.length);
      shown.set(place, row);
      pane.append(row);
    }
  }

  function lay() {
    for (const row of shown.values()) row.remove();
    shown.clear();
    pane.replaceChildren();
    pane.style.height = chosen.length * height() + "px";
    if (!chosen.length) {
      const empty = pane.appendChild(document.createElement("div"));
      empty.className = "empty";
      empty.textContent = "None of the suspects is of that kind and label, with such an id.";
      pane.style.height = "auto";
    }
    fill();
  }

  const number = (value) => (value === null ? Infinity : value);
  const ORDERS = {
    rank: null,
    score: (a, b) => rows.score[b] - rows.score[a],
    loss: (a, b) => rows.mean_loss[b] - rows.mean_loss[a],
    share: (a, b) => (rows.share[b] ?? -1) - (rows.share[a] ?? -1),
    learned: (a, b) => number(rows.learned[b]) - number(rows.learned[a]), // NaN for two that never were: the order stays
    id: (a, b) => rows.id[a] - rows.id[b],
  };

  function choose() {
    const kind = at("pick-kind").value;
    const label = at("pick-label").value;
    const id = at("pick-id").value.trim();
    chosen = [];
    for (let i = 0; i < rows.id.length; i += 1) {
      if (kind !== "" && rows.kind[i] !== Number(kind)) continue;
      if (label !== "" && rows.label[i] !== Number(label)) continue;
      if (id !== "" && !String(rows.id[i]).startsWith(id)) continue;
      chosen.push(i);
    }
    const order = ORDERS[at("pick-order").value];
    if (order) chosen.sort((a, b) => order(a, b) || a - b);
    at("count").textContent = chosen.length.toLocaleString("en") + " of " + rows.id.length.toLocaleString("en") + " suspects";
    list.scrollTop = 0;
    lay();
  }

  const labels = [...new Set(rows.label)].sort((a, b) => a - b);
  for (const label of labels) at("pick-label").append(new Option(name(label), label));
  for (const id of ["pick-kind", "pick-label", "pick-order"]) at(id).addEventListener("change", choose);
  at("pick-id").addEventListener("input", choose);
  let waiting = false;
  list.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      fill();
    });
  });
  window.addEventListener("resize", lay);

  // ---- files and paper -----------------------------------------------------------------------------------------------

  at("save-rows").addEventListener("click", () => {
    const columns = Object.keys(rows);
    const cell = (column, i) => {
      const value = rows[column][i];
      if (column === "kind") return kinds[value];
      return value === null ? "" : Array.isArray(value) ? value.join(" ") : value;
    };
    const text = [columns.join(","), ...chosen.map((i) => columns.map((column) => cell(column, i)).join(","))].join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "text/csv" }));
    link.download = "suspects.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  window.addEventListener("beforeprint", () => {
    for (const row of shown.values()) row.remove();
    shown.clear();
    const some = chosen.slice(0, ON_PAPER);
    pane.replaceChildren(...some.map(made));
    for (const image of pane.querySelectorAll("img")) image.loading = "eager";
    at("paper").textContent = "The first " + some.length + " of " + chosen.length.toLocaleString("en") + " chosen suspects; the page on a screen has them all.";
  });
  window.addEventListener("afterprint", lay);
  matchMedia("print").addEventListener("change", ({ matches }) => {
    if (!matches) lay();
  });

  list.classList.toggle("maps", Boolean(data.maps));
  list.classList.toggle("texts", !data.pictures && Boolean(data.texts));
  list.classList.toggle("bare", !data.pictures && !data.texts);
  choose();
})();
