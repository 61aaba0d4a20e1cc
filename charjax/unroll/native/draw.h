// Drawing text: all layers of a model over the text that they write, for a share of the
// texts per thread. The rule is that of charjax/predict/draw.py.

#ifndef CHARJAX_DRAW_H_
#define CHARJAX_DRAW_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cells.h"
#include "parallel.h"
#include "product.h"
#include "recurrence.h"
#include "vector.h"

namespace charjax {

// All gates at a time: for a few texts more sums would be more useful than more rows.
template <typename Factor, int kGates>
using DrawPanels = Panels<Factor, kGates, kGates, kGates == 1 ? 3 : 1>;

// Which characters may be drawn, in the order of the rules: the top_k likeliest, of them
// the likeliest that hold a share top_p of their probability, and those that have at
// least the share min_p of the likeliest one's. All alike are kept, or none.
struct Cut {
  int64_t top_k;
  float top_p, min_p;

  bool weighs() const { return top_p < 1 || min_p > 0; }
  bool keeps_all(int64_t symbols) const { return top_k >= symbols && !weighs(); }
};

// Draws a character of one text. `room` is for three numbers a symbol.
inline int64_t DrawSymbol(const float* logits, const float* noise, int64_t symbols,
                          float temperature, Cut cut, float* room) {
  float *scores = room, *weights = room + symbols, *sorted = room + 2 * symbols;
  for (int64_t s = 0; s < symbols; ++s) scores[s] = logits[s] + temperature * noise[s];
  int64_t drawn = std::max_element(scores, scores + symbols) - scores;
  if (cut.keeps_all(symbols)) return drawn;
  const float most = *std::max_element(logits, logits + symbols);
  float enough = 0;  // the weight of the likeliest that top_p keeps
  if (cut.weighs()) {
    const float scale = 1 / (temperature > 0 ? temperature : 1);
    for (int64_t s = 0; s < symbols; s += kWidth) {
      const Vec below = (Load(logits + s, symbols - s) - most) * scale;
      Store(weights + s, Exp(below), symbols - s);
    }
    float least = -INFINITY;
    if (cut.top_k < symbols) {
      std::copy(logits, logits + symbols, sorted);
      float* last = sorted + cut.top_k - 1;
      std::nth_element(sorted, last, sorted + symbols, std::greater<float>());
      least = *last;
    }
    for (int64_t s = 0; s < symbols; ++s) {
      enough += logits[s] >= least ? cut.top_p * weights[s] : 0;
    }
  }
  // What is cut is unlikely, so that to draw again takes less than to sort. Where a
  // symbol is cut, so are all that are no likelier.
  while (true) {
    const float value = logits[drawn];
    int32_t num_likelier = 0;
    float likelier = 0;
    for (int64_t s = 0; s < symbols; ++s) num_likelier += logits[s] > value;
    for (int64_t s = 0; s < symbols && cut.weighs(); ++s) {
      likelier += logits[s] > value ? weights[s] : 0;
    }
    const bool is_heavy =
        !cut.weighs() || (weights[drawn] >= cut.min_p && likelier < enough);
    if ((num_likelier < cut.top_k && is_heavy) || !(value < most)) return drawn;
    for (int64_t s = 0; s < symbols; ++s) {
      if (logits[s] <= value) scores[s] = -INFINITY;
    }
    drawn = std::max_element(scores, scores + symbols) - scores;
  }
}

// A model, and what is drawn from it. Packed are M matrices in S factors each: for each
// layer the weights of its own last output, above the first layer before these those of
// the outputs of the layer below. A state has c,
// if the cell has a memory, and h.
template <class Cell, typename Factor>
struct Drawing {
  using Weights = DrawPanels<Factor, Cell::kGates>;
  using Readout = DrawPanels<Factor, 1>;
  static constexpr int kStates = Cell::kHasMemory ? 2 : 1;

  int64_t layers, batch, hidden, symbols, matrix_size;
  const float *z_VxGH, *bias_LxGH, *reset_bias_LxH, *bias_V;
  const Factor *packed_MxS, *packed_readout;
  float temperature;
  Cut cut;
  const float* noise_PxBxV;
  float *logits_BxV, *state_LxSxBxH;
  int32_t* ids_PxB;

  // A character of each row, and what the model says after it. There must be room for a
  // layer's numbers, for two layers' factors, and for DrawSymbol.
  void DrawStep(int64_t step, int64_t begin, int64_t end, float* next_BxH,
                Factor* factors_2xBxD, float* room_3xV) const {
    int32_t* drawn = ids_PxB + step * batch;
    for (int64_t row = begin; row < end; ++row) {
      const float* noise = noise_PxBxV + (step * batch + row) * symbols;
      drawn[row] = DrawSymbol(logits_BxV + row * symbols, noise, symbols, temperature,
                              cut, room_3xV);
    }
    const Factor* below = nullptr;
    for (int64_t layer = 0; layer < layers; ++layer) {
      Factor* room = factors_2xBxD + layer % 2 * batch * Depth<Factor>(hidden);
      below = RunLayer(layer, drawn, begin, end, below, next_BxH, room);
    }
    ReadOut(begin, end, below);
  }

  float* Last(int64_t layer) const {
    return state_LxSxBxH + (kStates * (layer + 1) - 1) * batch * hidden;
  }

  // Runs a layer for a step, and returns its outputs as factors.
  const Factor* RunLayer(int64_t layer, const int32_t* drawn, int64_t begin,
                         int64_t end, const Factor* below, float* next_BxH,
                         Factor* room) const {
    const int64_t depth = Depth<Factor>(hidden);
    const Factor* own = packed_MxS + 2 * layer * matrix_size;
    const Factor* input = own - matrix_size;
    float* h_BxH = Last(layer);
    const Factor* last = RowFactors(h_BxH, hidden, begin, end, room);
    for (int64_t first = 0; first < hidden; first += Weights::kUnits) {
      ForBlocks(begin, end, Weights::kRows, [&](int64_t row, int64_t count) {
        typename Weights::Sums z(count), y(count);
        if (layer) z.Add(count, below + row * depth, depth, input, depth, first);
        y.Add(count, last + row * depth, depth, own, depth, first);
        y.ForEach(count, first, hidden, [&](int64_t i, int64_t unit, const Vec* y_i) {
          Vec z_i[Cell::kGates];
          z.Get(i, unit - first, z_i);
          const int64_t gates = Cell::kGates * hidden;
          const float* from =
              layer ? bias_LxGH + layer * gates : z_VxGH + drawn[row + i] * gates;
          for (int g = 0; g < Cell::kGates; ++g) {
            z_i[g] += Load(from + g * hidden + unit, hidden - unit);
          }
          Step(layer, (row + i) * hidden + unit, unit, z_i, y_i, next_BxH);
        });
      });
    }
    // Only now, since until here the last outputs were still read.
    std::copy(next_BxH + begin * hidden, next_BxH + end * hidden,
              h_BxH + begin * hidden);
    return RowFactors(h_BxH, hidden, begin, end, room);
  }

  void Step(int64_t layer, int64_t at, int64_t unit, const Vec* z, const Vec* y,
            float* next_BxH) const {
    const int64_t count = hidden - unit;
    float* h = Last(layer) + at;
    float* c = h - batch * hidden;
    Vec saved[Cell::kSaved + 1], bias{};
    if (Cell::kHasBias) bias = Load(reset_bias_LxH + layer * hidden + unit, count);
    State state{};
    state.h = Load(h, count);
    if (Cell::kHasMemory) state.c = Load(c, count);
    Cell::Step(z, y, bias, state, saved);
    if (Cell::kHasMemory) Store(c, state.c, count);
    Store(next_BxH + at, state.h, count);
  }

  void ReadOut(int64_t begin, int64_t end, const Factor* h) const {
    const int64_t depth = Depth<Factor>(hidden);
    for (int64_t first = 0; first < symbols; first += Readout::kUnits) {
      ForBlocks(begin, end, Readout::kRows, [&](int64_t row, int64_t count) {
        typename Readout::Sums sums(count);
        sums.Add(count, h + row * depth, depth, packed_readout, depth, first);
        sums.ForEach(count, first, symbols, [&](int64_t i, int64_t s, const Vec* y) {
          float* to = logits_BxV + (row + i) * symbols + s;
          Store(to, Load(bias_V + s, symbols - s) + *y, symbols - s);
        });
      });
    }
  }
};

// Draws the first `count` characters of each row and reads each with all layers.
template <class Cell, typename Factor>
void Draw(ffi::ThreadPool& pool, const Drawing<Cell, Factor>& drawing, int64_t count) {
  const int64_t size = drawing.batch * drawing.hidden;
  const std::unique_ptr<float[]> next(new float[size]);
  const std::unique_ptr<Factor[]> factors(
      new Factor[2 * drawing.batch * Depth<Factor>(drawing.hidden)]);
  InParallel(pool, drawing.batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    const Tiles tiles;
    std::vector<float> room(3 * drawing.symbols);
    for (int64_t step = 0; step < count; ++step) {
      drawing.DrawStep(step, begin, end, next.get(), factors.get(), room.data());
    }
  });
}

}  // namespace charjax

#endif  // CHARJAX_DRAW_H_
