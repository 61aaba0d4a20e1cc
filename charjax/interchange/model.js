// A charjax model in a browser: its weights, its cells, and a sampler.
"use strict";
const charjax = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { spec, codes } = data;
  const H = spec.hidden_size, V = codes.length;

  // Memory. All numbers lie in one array of float32, so that WebAssembly can have them;
  // a place is an index into it. Matrices are cut into blocks of BLOCK columns, the last
  // one filled up with zeros, and vectors that are written to have room for that.

  const BLOCK = 32;
  const padded = (n) => Math.ceil(n / BLOCK) * BLOCK;
  const gates = { lstm: 4, gru: 3, gru_reset_before: 3, rnn: 1 }[spec.cell];

  function decode(name) {
    const { shape, values, scales } = data.arrays[name];
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
    if (!scales) return { shape, values: new Float32Array(bytes(values)) };
    const column = new Float32Array(bytes(scales));
    const from = new Int8Array(bytes(values)), n = column.length;
    return { shape, values: Float32Array.from(from, (value, i) => value * column[i % n]) };
  }

  const sizes = Object.values(data.arrays).map(({ shape }) =>
    (shape.length > 1 ? padded(shape[0]) : 1) * padded(shape[shape.length - 1]));
  const state = 8 * padded(H) + 2 * padded(gates * H) + 20 * BLOCK; // of a layer
  const room = sizes.reduce((a, b) => a + b, 0) + V * padded(gates * H)
    + spec.num_layers * state + padded(V) + padded(spec.embedding_size) + 20 * BLOCK;

  const canCompile = typeof WebAssembly === "object";
  const memory = canCompile && new WebAssembly.Memory({ initial: Math.ceil(room / 16384) });
  const floats = new Float32Array(canCompile ? memory.buffer : room);
  let used = BLOCK;
  const place = (n) => (used += padded(n) + BLOCK) - padded(n) - BLOCK;

  function vector(values) {
    const at = place(values.length);
    floats.set(values, at);
    return at;
  }

  function matrix({ shape: [rows, columns], values }) {
    const at = place(rows * padded(columns));
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++)
        floats[at + (j - j % BLOCK) * rows + i * BLOCK + j % BLOCK] = values[i * columns + j];
    return { at, rows, columns: padded(columns) };
  }

  const transposed = ({ shape: [rows, columns], values }) => ({
    shape: [columns, rows],
    values: values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]),
  });

  // y += x W, the only product. WebAssembly has four numbers in a register, which makes
  // it five to ten times as fast; where a browser forbids it, JavaScript does the same.

  function multiplyInScript(y, x, w) {
    for (let block = 0, at = w.at; block < w.columns; block += BLOCK, at += w.rows * BLOCK)
      for (let j = 0; j < BLOCK; j += 4) {
        let a = 0, b = 0, c = 0, d = 0;
        for (let i = 0, p = at + j; i < w.rows; i++, p += BLOCK) {
          const value = floats[x + i];
          a += value * floats[p];
          b += value * floats[p + 1];
          c += value * floats[p + 2];
          d += value * floats[p + 3];
        }
        const to = y + block + j;
        floats[to] += a;
        floats[to + 1] += b;
        floats[to + 2] += c;
        floats[to + 3] += d;
      }
  }

  // The function in WebAssembly's binary form: (y, x, w, end of x, end of y), in bytes.

  function compiled() {
    const number = (n) => n < 128 ? [n] : [n & 127 | 128, ...number(n >> 7)];
    const section = (id, ...body) => [id, ...number(body.length), ...body];
    const [y, x, w, xEnd, yEnd, p, value] = [0, 1, 2, 3, 4, 5, 6];
    const sums = Array.from({ length: BLOCK / 4 }, (_, k) => 7 + k);
    const get = (local) => [0x20, local], set = (local) => [0x21, local];
    const loop = (...body) => [0x03, 0x40, ...body.flat(), 0x0b];
    const add = (local, n) => [...get(local), 0x41, ...number(n), 0x6a, ...set(local)];
    const wide = (operation, k) => [0xfd, operation, 2, ...number(16 * k)];
    const repeatWhileLess = (local, end) => [...get(local), ...get(end), 0x49, 0x0d, 0];
    const body = [
      2, 1, 0x7f, 1 + sums.length, 0x7b, // locals: p, then value and the sums
      ...loop(
        get(x), set(p),
        ...sums.map((sum, k) => [...get(y), ...wide(0x00, k), ...set(sum)]),
        loop(
          get(p), [0xfd, 0x09, 2, 0], set(value), // one number, four times
          ...sums.map((sum, k) => [...get(sum), ...get(value), ...get(w), ...wide(0x00, k),
            0xfd, 0xe6, 1, 0xfd, 0xe4, 1, ...set(sum)]), // sum + value * w[k]
          add(w, 4 * BLOCK), add(p, 4), repeatWhileLess(p, xEnd),
        ),
        ...sums.map((sum, k) => [...get(y), ...get(sum), ...wide(0x0b, k)]),
        add(y, 4 * BLOCK), repeatWhileLess(y, yEnd),
      ),
      0x0b,
    ];
    const bytes = [
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, 1, 0x60, 5, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0),
      ...section(2, 1, 1, 0x6d, 1, 0x6d, 2, 0, 1),
      ...section(3, 1, 0),
      ...section(7, 1, 1, 0x66, 0, 0),
      ...section(10, 1, ...number(body.length), ...body),
    ];
    const module = new WebAssembly.Module(new Uint8Array(bytes));
    const { f } = new WebAssembly.Instance(module, { m: { m: memory } }).exports;
    return (y, x, w) =>
      f(4 * y, 4 * x, 4 * w.at, 4 * (x + w.rows), 4 * (y + w.columns));
  }

  let multiply = multiplyInScript;
  try {
    if (canCompile) multiply = compiled();
  } catch {
    // Forbidden by a policy, or a browser without vectors.
  }
  const engine = multiply === multiplyInScript ? "JavaScript" : "WebAssembly";

  // The weights, and the state of each layer.

  const layers = Array.from({ length: spec.num_layers }, (_, l) => {
    const get = (name) => decode(`layers.${l}.${name}`);
    const layer = {
      bias: vector(get("bias_GH").values), z: place(gates * H + BLOCK),
      y: place(gates * H + BLOCK), h: place(H), c: place(H), old: place(2 * H),
      input: l && matrix(get("input_DxGH")),
    };
    if (spec.cell === "gru_reset_before")
      return { ...layer, recurrent: matrix(get("recurrent_Hx2H")),
        candidate: matrix(get("candidate_HxH")) };
    if (spec.cell === "gru") layer.resetBias = vector(get("reset_bias_H").values);
    return { ...layer, recurrent: matrix(get("recurrent_HxGH")) };
  });
  const embedding = data.arrays.embedding_VxE && decode("embedding_VxE");
  const readout = matrix(spec.tied ? transposed(embedding) : decode("readout_HxV"));
  const readoutBias = vector(decode("readout_bias_V").values);
  const logits = place(V);

  // For each character the first layer's input with its bias, V rows.
  const width = padded(gates * H);
  const table = (() => {
    const { shape: [rows], values } = decode("layers.0.input_DxGH");
    const at = place(V * width), size = gates * H;
    for (let v = 0; v < V; v++)
      floats.copyWithin(at + v * width, layers[0].bias, layers[0].bias + size);
    if (!embedding) {
      for (let v = 0; v < V; v++)
        for (let j = 0; j < size; j++) floats[at + v * width + j] += values[v * size + j];
      return at;
    }
    const before = used, x = place(rows), weights = matrix({ shape: [rows, size], values });
    for (let v = 0; v < V; v++) {
      floats.set(embedding.values.subarray(v * rows, (v + 1) * rows), x);
      multiply(at + v * width, x, weights);
    }
    floats.fill(0, before, used);
    used = before;
    return at;
  })();

  // The cells, as in charjax/cells: z is x W + b, and each step changes h (and c).

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const tanh = (x) => 1 - 2 / (Math.exp(2 * x) + 1);

  const steps = {
    rnn({ z, h, recurrent }) {
      multiply(z, h, recurrent);
      for (let j = 0; j < H; j++) floats[h + j] = tanh(floats[z + j]);
    },
    lstm({ z, h, c, recurrent }) {
      multiply(z, h, recurrent);
      for (let j = 0, p = z; j < H; j++, p++) {
        const kept = sigmoid(floats[p + H]) * floats[c + j];
        const next = kept + sigmoid(floats[p]) * tanh(floats[p + 2 * H]);
        floats[c + j] = next;
        floats[h + j] = sigmoid(floats[p + 3 * H]) * tanh(next);
      }
    },
    gru({ z, y, h, recurrent, resetBias }) {
      floats.fill(0, y, y + 3 * H);
      multiply(y, h, recurrent);
      for (let j = 0, p = z, q = y; j < H; j++, p++, q++) {
        const reset = sigmoid(floats[p] + floats[q]);
        const inner = reset * (floats[q + 2 * H] + floats[resetBias + j]);
        const n = tanh(floats[p + 2 * H] + inner);
        floats[h + j] = n + sigmoid(floats[p + H] + floats[q + H]) * (floats[h + j] - n);
      }
    },
    gru_reset_before({ z, y, h, recurrent, candidate }) {
      multiply(z, h, recurrent);
      for (let j = 0; j < H; j++) floats[y + j] = sigmoid(floats[z + j]) * floats[h + j];
      multiply(z + 2 * H, y, candidate);
      for (let j = 0, p = z; j < H; j++, p++) {
        const n = tanh(floats[p + 2 * H]);
        floats[h + j] = n + sigmoid(floats[p + H]) * (floats[h + j] - n);
      }
    },
  };

  function reset() {
    for (const { h, c } of layers) for (const at of [h, c]) floats.fill(0, at, at + H);
    floats.fill(0, logits, logits + V); // before the first character all are as likely
  }

  function read(id) {
    layers.forEach((layer, l) => {
      const from = l ? layer.bias : table + id * width, { z, h, c, old } = layer;
      floats.copyWithin(z, from, from + gates * H);
      if (l) multiply(z, layers[l - 1].h, layer.input);
      if (spec.zoneout) {
        floats.copyWithin(old, h, h + H);
        floats.copyWithin(old + H, c, c + H);
      }
      steps[spec.cell](layer);
      for (let j = 0; spec.zoneout && j < H; j++)
        for (const [now, then] of [[h + j, old + j], [c + j, old + H + j]])
          floats[now] += spec.zoneout * (floats[then] - floats[now]);
    });
    floats.copyWithin(logits, readoutBias, readoutBias + V);
    multiply(logits, layers[layers.length - 1].h, readout);
  }

  // Characters.

  const ids = new Map(codes.map((code, id) => [code, id]));
  const isBytes = data.encoding === "bytes";

  // Returns the ids of a text, and the characters that the model does not know.
  function encode(text) {
    const all = isBytes ? [...new TextEncoder().encode(text)]
      : Array.from(text, (c) => c.codePointAt(0));
    const known = all.filter((code) => ids.has(code)).map((code) => ids.get(code));
    return { known, unknown: [...new Set(all.filter((code) => !ids.has(code)))] };
  }

  // Returns a function from an id to the text that is complete with it.
  function decoder() {
    if (!isBytes) return (id) => String.fromCodePoint(codes[id]);
    const bytes = new TextDecoder();
    return (id) => bytes.decode(Uint8Array.of(codes[id]), { stream: true });
  }

  // Drawing.

  // A generator of numbers in [0, 1) that a seed repeats: Jenkins' small fast one.
  function generator(seed) {
    let a = 0xf1ea5eed, b = seed >>> 0, c = b, d = b;
    const next = () => {
      const e = a - (b << 27 | b >>> 5) | 0;
      a = b ^ (c << 17 | c >>> 15);
      b = c + d | 0;
      c = d + e | 0;
      d = e + a | 0;
      return (d >>> 0) / 2 ** 32;
    };
    for (let i = 0; i < 20; i++) next();
    return next;
  }

  const chances = new Float64Array(V);

  // Fills `chances` with probabilities and returns the likeliest id.
  function predict(temperature) {
    let best = 0, sum = 0;
    for (let v = 1; v < V; v++) if (floats[logits + v] > floats[logits + best]) best = v;
    for (let v = 0; v < V; v++)
      sum += chances[v] = Math.exp((floats[logits + v] - floats[logits + best]) / temperature);
    for (let v = 0; v < V; v++) chances[v] /= sum;
    return best;
  }

  // Draws the next id and reads it. Returns it and its probability at temperature 1.
  function draw(temperature, random) {
    const best = predict(1), highest = chances[best];
    let id = best;
    if (temperature > 0) {
      if (temperature !== 1) predict(temperature);
      let rest = random();
      for (id = 0; id < V - 1 && (rest -= chances[id]) >= 0;) id++;
    }
    const chance = highest * Math.exp(floats[logits + id] - floats[logits + best]);
    read(id);
    return { id, chance };
  }

  function start(text) {
    reset();
    const { known, unknown } = encode(text);
    for (const id of known) read(id);
    return unknown;
  }

  return {
    engine, V, start, draw, decoder, generator, predict, chances, codes, isBytes,
    // For tests and for the console.
    logits(text) {
      start(text);
      return Array.from(floats.subarray(logits, logits + V));
    },
    sample(prime, length, temperature = 1, seed = 1) {
      start(prime);
      const random = generator(seed), decoded = decoder();
      let text = prime;
      for (let i = 0; i < length; i++) text += decoded(draw(temperature, random).id);
      return text;
    },
  };
})();
