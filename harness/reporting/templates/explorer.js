(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const form = document.getElementById("explorer-controls");
  const rows = document.querySelectorAll("#explorer-bars tbody tr");
  const MOST = 2 ** 20;

  const number = name => Number(form.elements[name].value);
  const grouped = size => size.toLocaleString("en-US");
  function sized(size) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = 0;
    while (power < 4 && size >= 1024 ** (power + 1)) power += 1;
    return `${Number((size / 1024 ** power).toPrecision(4))} ${units[power]}`;
  }

  // A part is a list of places and coefficients; a place stands for powers of the three sizes.
  function bytes(part, depth, width, batch) {
    let sum = 0;
    for (let at = 0; at < part.length; at += 2) {
      const place = part[at];
      sum += part[at + 1] * depth ** Math.floor(place / 6)
        * width ** (Math.floor(place / 2) % 3) * batch ** (place % 2);
    }
    return sum;
  }
  const total = (moment, depth, width, batch) =>
    Object.values(moment.parts).reduce((sum, part) => sum + bytes(part, depth, width, batch), 0);

  function moments(depth) {
    const key = ["dtype", "optimizer", "activation"]
      .map(name => data.choices[name][form.elements[name].value]).join(" ");
    return data.tables[key].filter(
      one => one.first <= depth && (one.last === null || depth <= one.last));
  }
  function peak(depth, width, batch) {
    return moments(depth).reduce((best, one) =>
      total(one, depth, width, batch) > total(best, depth, width, batch) ? one : best);
  }
  function largest(depth, width, budget) {
    return Math.min(...moments(depth).map(one => {
      const fixed = total(one, depth, width, 0), each = total(one, depth, width, 1) - fixed;
      if (fixed > budget) return 0;
      return each > 0 ? Math.floor((budget - fixed) / each) : Infinity;
    }));
  }

  function showBars(moment, needed, depth, width, batch) {
    for (const row of rows) {
      const size = row.dataset.category === "total" ? needed
        : bytes(moment.parts[row.dataset.category] || [], depth, width, batch);
      row.dataset.bytes = size;
      row.lastElementChild.textContent = sized(size);
      row.lastElementChild.title = `${grouped(size)} bytes`;
      row.querySelector(".bar").style.width = `${100 * size / needed}%`;
    }
  }

  function draw(depth, width, batch, budget, fits) {
    const place = document.getElementById("explorer-frontier");
    const wide = Math.max(260, place.clientWidth), high = 230;
    const left = 74, right = wide - 12, top = 10, bottom = high - 40;
    const x = layers => left + (right - left) * (layers - 1) / 63;
    const y = size => bottom - (bottom - top) * Math.log2(Math.min(MOST, Math.max(1, size))) / 20;
    const line = [];
    for (let layers = 1; layers <= 64; layers += 1)
      line.push(`${x(layers).toFixed(1)},${y(largest(layers, width, budget)).toFixed(1)}`);
    const texts = [];
    for (const power of [0, 4, 8, 12, 16, 20])
      texts.push(`<line class="rule" x1="${left}" x2="${right}" y1="${y(2 ** power)}" y2="${y(2 ** power)}"/>`,
        `<text x="${left - 8}" y="${y(2 ** power) + 4}" text-anchor="end">${grouped(2 ** power)}</text>`);
    for (const layers of [1, 16, 32, 48, 64])
      texts.push(`<text x="${x(layers)}" y="${bottom + 18}" text-anchor="middle">${layers}</text>`);
    texts.push(`<text x="${(left + right) / 2}" y="${high - 4}" text-anchor="middle">depth (hidden layers)</text>`);
    const mark = fits
      ? `<circle class="mark" cx="${x(depth)}" cy="${y(batch)}" r="7"/>`
      : `<path class="mark misses" d="M-6-6 6 6M6-6-6 6" transform="translate(${x(depth)} ${y(batch)})"/>`;
    place.innerHTML = `<svg role="img" aria-labelledby="explorer-frontier-words" viewBox="0 0 ${wide} ${high}"
      width="${wide}" height="${high}">${texts.join("")}
      <polygon class="room" points="${left},${bottom} ${line.join(" ")} ${right},${bottom}"/>
      <polyline class="line" points="${line.join(" ")}"/>${mark}</svg>`;
  }

  function show() {
    const depth = number("depth"), width = number("width"), batch = number("batch");
    const budget = number("budget"), name = form.elements.budget.selectedOptions[0].textContent;
    for (const one of ["depth", "width", "batch"])
      form.elements[one].nextElementSibling.value = grouped(number(one));
    const moment = peak(depth, width, batch), needed = total(moment, depth, width, batch);
    const most = largest(depth, width, budget), fits = needed <= budget;
    const answer = document.getElementById("explorer-answer");
    answer.dataset.bytes = needed;
    answer.dataset.largest = Number.isFinite(most) ? most : "";
    answer.classList.toggle("misses", !fits);
    const room = most < 1 ? "No batch fits." : `The largest batch that fits: ${grouped(most)}.`;
    answer.innerHTML = "<strong></strong> <span></span>";
    answer.firstElementChild.textContent = `${sized(needed)} at the peak.`;
    answer.lastElementChild.textContent =
      `${fits ? "Fits into" : "Does not fit into"} ${name}. ${room}`;
    showBars(moment, needed, depth, width, batch);
    draw(depth, width, batch, budget, fits);
    document.getElementById("explorer-frontier-words").textContent =
      `The largest batch that fits into ${name} at each depth: ${grouped(largest(1, width, budget))} `
      + `at depth 1, ${grouped(largest(64, width, budget))} at depth 64. The mark is your step.`;
  }

  form.addEventListener("input", show);
  window.addEventListener("resize", show);
  show();
})();
