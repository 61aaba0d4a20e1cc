// One layer over a text, forward and backward, for any cell of cells.h: all time steps
// of a share of the batch, per thread, with the cell's step in the epilogue of the
// products. Threads share no state, so they meet once a call and not once a time step.
// A row is one text of the batch.

#ifndef CHARJAX_RECURRENCE_H_
#define CHARJAX_RECURRENCE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "cells.h"
#include "parallel.h"
#include "product.h"
#include "vector.h"

namespace charjax {

// A layer's arrays in float32, each of `batch` rows a step. Those that a cell does not
// have are null. Saved are the numbers that the backward pass reads, kSaved * H a row.
template <class Cell>
struct Layer {
  int64_t steps, batch, hidden;
  const float *u_HxGH, *first_c_BxH, *first_h_BxH;

  const float* Before(const float* states_TxBxH, const float* first_BxH,
                      int64_t t) const {
    return t ? states_TxBxH + (t - 1) * batch * hidden : first_BxH;
  }
};

template <class Cell>
struct ForwardLayer : Layer<Cell> {
  const float *z_TxBxGH, *bias_H;
  float *saved_TxBxSH, *c_TxBxH, *h_TxBxH;

  // Asks for the numbers that a step reads, while the products are computed.
  void Prefetch(int64_t t, int64_t row, int64_t unit) const {
    const int64_t H = this->hidden, at = (t * this->batch + row) * H;
    for (int g = 0; g < Cell::kGates; ++g) {
      charjax::Prefetch(z_TxBxGH + at * Cell::kGates + g * H + unit);
    }
  }

  // Step t of a row's units from `unit` on, whose recurrent products are y.
  void Step(int64_t t, int64_t row, int64_t unit, const Vec* y) const {
    const int64_t H = this->hidden, at = (t * this->batch + row) * H;
    const int64_t count = H - unit, in_row = row * H + unit;
    Vec z[Cell::kGates], saved[Cell::kSaved + 1], bias{};
    for (int g = 0; g < Cell::kGates; ++g) {
      z[g] = Load(z_TxBxGH + at * Cell::kGates + g * H + unit, count);
    }
    if (Cell::kHasBias) bias = Load(bias_H + unit, count);
    State state{};
    state.h = Load(this->Before(h_TxBxH, this->first_h_BxH, t) + in_row, count);
    if (Cell::kHasMemory) {
      state.c = Load(this->Before(c_TxBxH, this->first_c_BxH, t) + in_row, count);
    }
    Cell::Step(z, y, bias, state, saved);
    if (Cell::kHasMemory) Store(c_TxBxH + at + unit, state.c, count);
    Store(h_TxBxH + at + unit, state.h, count);
    for (int s = 0; s < Cell::kSaved; ++s) {
      Store(saved_TxBxSH + at * Cell::kSaved + s * H + unit, saved[s], count);
    }
  }
};

template <class Cell>
struct BackwardLayer : Layer<Cell> {
  const float *saved_TxBxSH, *c_TxBxH, *h_TxBxH, *dh_TxBxH;
  float *dz_TxBxGH, *dy_TxBxGH;  // dy is dz where these are the same
  // The derivatives with respect to the last state, and in the end to the first one.
  // dc, or dh without a memory, is in between the cell's edge of the step after.
  float *dc_BxH, *dh_BxH;

  float* edge() const { return Cell::kHasMemory ? dc_BxH : dh_BxH; }

  // Asks for the numbers that StepBack reads, while the products are computed.
  void Prefetch(int64_t t, int64_t row, int64_t unit) const {
    if (t < 0) return;
    const int64_t H = this->hidden, at = (t * this->batch + row) * H;
    for (int s = 0; s < Cell::kSaved; ++s) {
      charjax::Prefetch(saved_TxBxSH + at * Cell::kSaved + s * H + unit);
    }
    charjax::Prefetch(dh_TxBxH + at + unit);
    if (Cell::kHasMemory && t) {
      charjax::Prefetch(c_TxBxH + at - this->batch * H + unit);
    } else {
      charjax::Prefetch(h_TxBxH + at + unit);
    }
  }

  // The derivative of step t for a row's units from `unit` on. `dh` is that of their h
  // through the products of the step after. Before step 0 is the first state.
  void StepBack(int64_t t, int64_t row, int64_t unit, Vec dh) const {
    constexpr bool kAddsEdge = Cell::kHasEdge && !Cell::kHasMemory;
    const int64_t H = this->hidden, at = (t * this->batch + row) * H;
    const int64_t count = H - unit, in_row = row * H + unit;
    if (t < 0) {
      if (kAddsEdge) dh += Load(edge() + in_row, count);
      return Store(dh_BxH + in_row, dh, count);
    }
    dh += Load(dh_TxBxH + at + unit, count);
    if (t == this->steps - 1 && !kAddsEdge) dh += Load(dh_BxH + in_row, count);
    State before{}, after{};
    before.h = Load(this->Before(h_TxBxH, this->first_h_BxH, t) + in_row, count);
    after.h = Load(h_TxBxH + at + unit, count);
    if (Cell::kHasMemory) {
      before.c = Load(this->Before(c_TxBxH, this->first_c_BxH, t) + in_row, count);
      after.c = Load(c_TxBxH + at + unit, count);
    }
    Vec saved[Cell::kSaved + 1], dz[Cell::kGates], dy[Cell::kGates], edge_here{};
    for (int s = 0; s < Cell::kSaved; ++s) {
      saved[s] = Load(saved_TxBxSH + at * Cell::kSaved + s * H + unit, count);
    }
    if (Cell::kHasEdge) edge_here = Load(edge() + in_row, count);
    Cell::StepBack(saved, before, after, dh, edge_here, dz, dy);
    if (Cell::kHasEdge) Store(edge() + in_row, edge_here, count);
    for (int g = 0; g < Cell::kGates; ++g) {
      const int64_t gate = at * Cell::kGates + g * H + unit;
      Store(dz_TxBxGH + gate, dz[g], count);
      if (!Cell::kSameGradients) Store(dy_TxBxGH + gate, dy[g], count);
    }
  }
};

// Panels for few gates at a time: more rows fit the registers, so that the panels are
// read less often.
template <class Cell, typename Factor>
using GatePanels = Panels<Factor, Cell::kGates, Cell::kGates % 2 ? Cell::kGates : 2,
                          Cell::kGates == 1 ? 2 : 1>;
template <typename Factor>
using ColumnPanels = Panels<Factor, 1, 1, 2>;

// Rows of numbers as factors of a product: floats are as they are, others are written.
inline const float* RowFactors(const float* rows, int64_t, int64_t, int64_t, float*) {
  return rows;
}

template <typename Factor>
const Factor* RowFactors(const float* rows, int64_t depth, int64_t begin, int64_t end,
                         Factor* to) {
  for (int64_t row = begin; row < end; ++row) {
    ToFactors(rows + row * depth, depth, to + row * Depth<Factor>(depth));
  }
  return to;
}

template <class Cell, typename Factor>
int64_t ForwardScratch(int64_t batch, int64_t hidden) {
  return GatePanels<Cell, Factor>::Size(hidden, hidden) +
         batch * Depth<Factor>(hidden);
}

template <class Cell, typename Factor>
void Forward(ffi::ThreadPool& pool, const ForwardLayer<Cell>& layer, Factor* scratch) {
  using Weights = GatePanels<Cell, Factor>;
  const int64_t H = layer.hidden, depth = Depth<Factor>(H);
  Weights::Pack(pool, layer.u_HxGH, H, H, scratch);
  Factor* rounded = scratch + Weights::Size(H, H);
  InParallel(pool, layer.batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    const Tiles tiles;
    for (int64_t t = 0; t < layer.steps; ++t) {
      const float* last_h = layer.Before(layer.h_TxBxH, layer.first_h_BxH, t);
      const Factor* x = RowFactors(last_h, H, begin, end, rounded);
      for (int64_t first = 0; first < H; first += Weights::kUnits) {
        ForBlocks(begin, end, Weights::kRows, [&](int64_t row, int64_t count) {
          const int64_t last = std::min<int64_t>(H, first + Weights::kUnits);
          ForVectors(count, first, last, [&](int64_t i, int64_t unit) {
            layer.Prefetch(t, row + i, unit);
          });
          typename Weights::Sums sums(count);
          sums.Add(count, x + row * depth, depth, scratch, depth, first);
          sums.ForEach(count, first, H, [&](int64_t i, int64_t unit, const Vec* y) {
            layer.Step(t, row + i, unit, y);
          });
        });
      }
    }
  });
}

template <class Cell, typename Factor>
int64_t BackwardScratch(int64_t batch, int64_t hidden) {
  const int64_t columns = Cell::kGates * hidden;
  return ColumnPanels<Factor>::Size(columns, hidden) + batch * Depth<Factor>(columns);
}

template <class Cell, typename Factor>
void Backward(ffi::ThreadPool& pool, const BackwardLayer<Cell>& layer,
              Factor* scratch) {
  using Weights = ColumnPanels<Factor>;
  const int64_t H = layer.hidden, columns = Cell::kGates * H;
  const int64_t depth = Depth<Factor>(columns);
  Weights::Pack(pool, layer.u_HxGH, columns, H, scratch, /*transposed=*/true);
  Factor* rounded = scratch + Weights::Size(columns, H);
  InParallel(pool, layer.batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    const Tiles tiles;
    for (int64_t t = layer.steps - 1; t >= -1; --t) {
      const bool has_after = t < layer.steps - 1;
      const Factor* x = nullptr;
      if (has_after) {
        const float* dy = layer.dy_TxBxGH + (t + 1) * layer.batch * columns;
        x = RowFactors(dy, columns, begin, end, rounded);
      }
      for (int64_t first = 0; first < H; first += Weights::kUnits) {
        ForBlocks(begin, end, Weights::kRows, [&](int64_t row, int64_t count) {
          const int64_t last = std::min<int64_t>(H, first + Weights::kUnits);
          ForVectors(count, first, last, [&](int64_t i, int64_t unit) {
            layer.Prefetch(t, row + i, unit);
          });
          typename Weights::Sums sums(count);
          if (has_after) {
            sums.Add(count, x + row * depth, depth, scratch, depth, first);
          }
          sums.ForEach(count, first, H, [&](int64_t i, int64_t unit, const Vec* dh) {
            layer.StepBack(t, row + i, unit, *dh);
          });
        });
      }
    }
  });
}

// y += x @ w, for one row of x.
inline void AddProduct(float* __restrict y, const float* x, const float* w,
                       int64_t depth, int64_t columns) {
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4, w += 4 * columns) {
    for (int64_t n = 0; n < columns; ++n) {
      y[n] += x[k] * w[n] + x[k + 1] * w[columns + n] + x[k + 2] * w[2 * columns + n] +
              x[k + 3] * w[3 * columns + n];
    }
  }
  for (; k < depth; ++k, w += columns) {
    for (int64_t n = 0; n < columns; ++n) y[n] += x[k] * w[n];
  }
}

// y = w @ x: the product of each row of w with x.
inline void RowProducts(float* __restrict y, const float* w, const float* x,
                        int64_t rows, int64_t columns) {
  constexpr int kRows = 8;
  const int64_t whole = columns - columns % kWidth;
  for (int64_t row = 0; row < rows; row += kRows) {
    const int count = std::min<int64_t>(kRows, rows - row);
    const float* from[kRows];
    for (int r = 0; r < kRows; ++r) {  // at the end the last one is read again
      from[r] = w + (row + std::min(r, count - 1)) * columns;
    }
    Vec sums[kRows] = {};
    for (int64_t k = 0; k < whole; k += kWidth) {
      const Vec x_k = Load(x + k);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) sums[r] += x_k * Load(from[r] + k);
    }
    for (int r = 0; r < count; ++r) {
      float parts[kWidth];
      Store(parts, sums[r]);
      for (int half = kWidth / 2; half; half /= 2) {
        for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
      }
      for (int64_t k = whole; k < columns; ++k) parts[0] += x[k] * from[r][k];
      y[row + r] = parts[0];
    }
  }
}

// Forward for a batch of one in float32. Each weight takes part in one product a step,
// so packing them would cost as much as several steps. Sums are in another order than
// in a batch.
template <class Cell>
void ForwardOne(const ForwardLayer<Cell>& layer, float* y_GH) {
  const FlushDenormals flush;
  const int64_t H = layer.hidden, columns = Cell::kGates * H;
  for (int64_t t = 0; t < layer.steps; ++t) {
    std::fill(y_GH, y_GH + columns, 0.0f);
    AddProduct(y_GH, layer.Before(layer.h_TxBxH, layer.first_h_BxH, t), layer.u_HxGH,
               H, columns);
    for (int64_t unit = 0; unit < H; unit += kWidth) {
      Vec y[Cell::kGates];
      for (int g = 0; g < Cell::kGates; ++g) {
        y[g] = Load(y_GH + g * H + unit, H - unit);
      }
      layer.Step(t, 0, unit, y);
    }
  }
}

template <class Cell>
void BackwardOne(const BackwardLayer<Cell>& layer, float* dh_H) {
  const FlushDenormals flush;
  const int64_t H = layer.hidden, columns = Cell::kGates * H;
  std::fill(dh_H, dh_H + H, 0.0f);
  for (int64_t t = layer.steps - 1; t >= -1; --t) {
    for (int64_t unit = 0; unit < H; unit += kWidth) {
      layer.StepBack(t, 0, unit, Load(dh_H + unit, H - unit));
    }
    if (t < 0) break;
    RowProducts(dh_H, layer.u_HxGH, layer.dy_TxBxGH + t * columns, H, columns);
  }
}

}  // namespace charjax

#endif  // CHARJAX_RECURRENCE_H_
