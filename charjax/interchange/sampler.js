// The page of a model: the form, the text it writes, and what it expects next.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const field = (id) => Number(byId(id).value);
  const LEVELS = [0.05, 0.2, 0.5, 0.9], ROWS = 12, FRAME = 12;
  let running = 0;

  function visible(code) {
    if (charjax.isBytes && code > 126) return `0x${code.toString(16).toUpperCase()}`;
    const known = { 9: "⇥", 10: "↵", 13: "␍", 32: "␣" }[code];
    const character = String.fromCodePoint(code);
    const isHidden = /[\p{C}\p{Z}\p{M}]/u.test(character);
    return known || (isHidden ? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`
      : character);
  }

  function cell(...children) {
    const node = document.createElement("td");
    node.append(...children);
    return node;
  }

  function showNext() {
    charjax.predict(field("temperature") || 1);
    const order = Array.from(charjax.chances.keys());
    order.sort((a, b) => charjax.chances[b] - charjax.chances[a]);
    byId("next").replaceChildren(...order.slice(0, ROWS).map((id) => {
      const chance = charjax.chances[id], row = document.createElement("tr");
      const bar = document.createElement("i");
      bar.style.width = `${100 * chance}%`;
      row.append(cell(visible(charjax.codes[id])), cell(bar),
        cell(`${(100 * chance).toFixed(1)}%`));
      return row;
    }));
  }

  function readPrime() {
    const unknown = charjax.start(byId("prime").value);
    byId("note").textContent = unknown.length
      ? `left out, as the model does not know them: ${unknown.map(visible).join(" ")}; ` : "";
    showNext();
  }

  // Adds text with its probability; neighbours of one level share an element.
  function append(text, level) {
    const last = byId("text").lastChild;
    if (last && last.className === level) return last.firstChild.appendData(text);
    const node = document.createElement("span");
    node.className = level;
    node.append(document.createTextNode(text));
    byId("text").append(node);
  }

  function write() {
    readPrime();
    const note = byId("note").textContent, run = ++running;
    const temperature = field("temperature"), length = field("length");
    const random = charjax.generator(field("seed")), decoded = charjax.decoder();
    byId("text").replaceChildren();
    append(byId("prime").value, "prime");
    byId("stop").disabled = false;
    let count = 0, spent = 0;
    const frame = () => {
      if (run !== running) return;
      const begin = performance.now();
      const pieces = [];
      while (count < length && performance.now() - begin < FRAME)
        for (let i = 0; i < 32 && count < length; i++, count++)
          pieces.push(charjax.draw(temperature, random));
      spent += performance.now() - begin;
      for (const { id, chance } of pieces)
        append(decoded(id), `p${LEVELS.filter((limit) => chance >= limit).length}`);
      const speed = Math.round(1000 * count / Math.max(spent, 0.1)).toLocaleString("en");
      byId("note").textContent = `${note}${count.toLocaleString("en")} characters, `
        + `${speed} a second (${charjax.engine})`;
      showNext();
      if (count < length) requestAnimationFrame(frame);
      else byId("stop").disabled = true;
    };
    frame();
  }

  const stop = () => {
    running++;
    byId("stop").disabled = true;
  };
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    write();
  });
  byId("again").addEventListener("click", () => {
    byId("seed").value = Math.floor(Math.random() * 2 ** 32);
    write();
  });
  byId("stop").addEventListener("click", stop);
  byId("prime").addEventListener("input", () => {
    stop();
    readPrime();
  });
  byId("temperature").addEventListener("input", () => {
    byId("shown").textContent = field("temperature").toFixed(2);
    showNext();
  });
  readPrime();
})();
