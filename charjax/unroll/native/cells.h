// The pointwise part of each cell: a step and its derivative, for a vector of units of
// one text. The equations are in charjax/cells.
//
// A cell has
//   kGates         gates of its projected input z and of its recurrent product y
//   kSaved         arrays that its backward pass reads beside those of its state
//   kHasMemory     a state c beside its output h
//   kHasBias       a bias of the recurrent product, one a unit
//   kHasEdge       a derivative that reaches the state before other than through the
//                  product: with a memory that of c, without one of h
//   kSameGradients derivatives with respect to z and y that are the same

#ifndef CHARJAX_CELLS_H_
#define CHARJAX_CELLS_H_

#include "vector.h"

namespace charjax {

struct State {
  Vec c, h;
};

struct LSTM {
  static constexpr int kGates = 4, kSaved = 4;
  static constexpr bool kHasMemory = true, kHasBias = false, kHasEdge = true;
  static constexpr bool kSameGradients = true;

  static void Step(const Vec* z, const Vec* y, Vec, State& state, Vec* saved) {
    const Vec i = Sigmoid(z[0] + y[0]), f = Sigmoid(z[1] + y[1]);
    const Vec g = Tanh(z[2] + y[2]), o = Sigmoid(z[3] + y[3]);
    state.c = f * state.c + i * g;
    state.h = o * Tanh(state.c);
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o;
  }

  static void StepBack(const Vec* saved, State before, State after, Vec dh, Vec& edge,
                       Vec* dz, Vec*) {
    const Vec i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const Vec tanh_c = Tanh(after.c);
    const Vec dc = edge + dh * o * (1 - tanh_c * tanh_c);
    dz[0] = dc * g * i * (1 - i);
    dz[1] = dc * before.c * f * (1 - f);
    dz[2] = dc * i * (1 - g * g);
    dz[3] = dh * tanh_c * o * (1 - o);
    edge = dc * f;
  }
};

struct GRU {
  static constexpr int kGates = 3, kSaved = 4;
  static constexpr bool kHasMemory = false, kHasBias = true, kHasEdge = true;
  static constexpr bool kSameGradients = false;

  static void Step(const Vec* z, const Vec* y, Vec bias, State& state, Vec* saved) {
    const Vec r = Sigmoid(z[0] + y[0]), u = Sigmoid(z[1] + y[1]), y_n = y[2] + bias;
    const Vec n = Tanh(z[2] + r * y_n);
    state.h = n + u * (state.h - n);
    saved[0] = r, saved[1] = u, saved[2] = n, saved[3] = y_n;
  }

  static void StepBack(const Vec* saved, State before, State, Vec dh, Vec& edge,
                       Vec* dz, Vec* dy) {
    const Vec r = saved[0], u = saved[1], n = saved[2], y_n = saved[3];
    dh += edge;
    const Vec dn = dh * (1 - u) * (1 - n * n);
    dz[0] = dy[0] = dn * y_n * r * (1 - r);
    dz[1] = dy[1] = dh * (before.h - n) * u * (1 - u);
    dz[2] = dn, dy[2] = dn * r;
    edge = dh * u;
  }
};

struct RNN {
  static constexpr int kGates = 1, kSaved = 0;
  static constexpr bool kHasMemory = false, kHasBias = false, kHasEdge = false;
  static constexpr bool kSameGradients = true;

  static void Step(const Vec* z, const Vec* y, Vec, State& state, Vec*) {
    state.h = Tanh(z[0] + y[0]);
  }

  static void StepBack(const Vec*, State, State after, Vec dh, Vec&, Vec* dz, Vec*) {
    dz[0] = dh * (1 - after.h * after.h);
  }
};

}  // namespace charjax

#endif  // CHARJAX_CELLS_H_
