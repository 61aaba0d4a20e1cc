// LSTM layers on CPU: all time steps of a share of the batch, per thread, with the
// gates' nonlinearities in the epilogue of the products. Forward and Backward run one
// layer over a text, Draw all layers over the text that they write.
//
// Threads share no state, so they meet once a call and not once a time step. The
// weights are packed once into panels that the inner loop reads in order, which XLA's
// own loop would do again in each step. The equations are in
// charjax/cells/lstm.py and charjax/predict/draw.py; a row is one text of the batch.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Buffer = ffi::Buffer<ffi::F32>;
using Integers = ffi::Buffer<ffi::S32>;
using Result = ffi::Result<Buffer>;

// A vector of the widest kind the machine has, and how many sums of them fit its
// registers.
#if defined(__AVX512F__)
constexpr int kWidth = 16, kSums = 24;
#elif defined(__AVX__)
constexpr int kWidth = 8, kSums = 12;
#else
constexpr int kWidth = 4, kSums = 12;
#endif
constexpr int kGates = 4;
constexpr int kPair = 2;  // vectors side by side in a panel that many rows share
typedef float Vec __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));

inline Vec Load(const float* from, int count) {
  if (count >= kWidth) return *reinterpret_cast<const Vec*>(from);
  float padded[kWidth] = {};
  for (int i = 0; i < count; ++i) padded[i] = from[i];
  return *reinterpret_cast<const Vec*>(padded);
}

inline void Store(float* to, Vec value, int count) {
  if (count >= kWidth) {
    *reinterpret_cast<Vec*>(to) = value;
    return;
  }
  for (int i = 0; i < count; ++i) to[i] = value[i];
}

// The rational approximation of tanh that Eigen and XLA use, within 4e-7 of it.
inline Vec Tanh(Vec x) {
  const Vec limit = Vec{} + 7.90531110763549805f;
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const Vec y = x * x;
  Vec p = y * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * y + -8.60467152213735e-11f;
  p = p * y + 5.12229709037114e-08f;
  p = p * y + 1.48572235717979e-05f;
  p = p * y + 6.37261928875436e-04f;
  p = p * y + 4.89352455891786e-03f;
  Vec q = y * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * y + 2.26843463243900e-03f;
  q = q * y + 4.89352518554385e-03f;
  return x * p / q;
}

inline Vec Sigmoid(Vec x) { return 0.5f * Tanh(0.5f * x) + 0.5f; }

// sums += x @ panel, for kCount rows of x that are `stride` apart, and a panel of this
// many vectors side by side.
template <int kCount, int kVectors>
inline void Multiply(Vec (&sums)[kCount][kVectors], const float* x, int64_t stride,
                     const float* panel, int64_t depth) {
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k, panel += kVectors * kWidth) {
    Vec weights[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      weights[v] = *reinterpret_cast<const Vec*>(panel + v * kWidth);
    }
#pragma GCC unroll 12
    for (int r = 0; r < kCount; ++r) {
      const float x_rk = x[r * stride + k];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] += x_rk * weights[v];
    }
  }
}

// Calls f(first row, count) for blocks of at most kMost rows, as equal as can be: a
// small one would leave the pipelines half empty.
template <int kCount, typename F>
inline void CallBlock(int64_t row, int64_t count, const F& f) {
  if (count == kCount) return f(row, std::integral_constant<int, kCount>());
  if constexpr (kCount > 1) CallBlock<kCount - 1>(row, count, f);
}

template <int kMost, typename F>
inline void ForBlocks(int64_t begin, int64_t end, const F& f) {
  const int64_t rows = end - begin, blocks = (rows + kMost - 1) / kMost;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t row = rows * i / blocks;
    CallBlock<kMost>(begin + row, rows * (i + 1) / blocks - row, f);
  }
}

// Calls work(begin, end) on shares of the rows, one a thread. The caller takes what no
// other thread has begun, so it never waits for one that is held up elsewhere.
template <typename F>
void InParallel(ffi::ThreadPool& pool, int64_t rows, const F& work) {
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::mutex mutex;
    std::condition_variable all_done;
  };
  const int64_t shares =
      std::max<int64_t>(1, std::min<int64_t>(pool.num_threads(), rows));
  auto shared = std::make_shared<Shared>();
  auto take = [shared, shares, rows, &work] {
    for (int64_t i; (i = shared->next.fetch_add(1)) < shares;) {
      work(rows * i / shares, rows * (i + 1) / shares);
      std::lock_guard<std::mutex> lock(shared->mutex);
      if (++shared->done == shares) shared->all_done.notify_all();
    }
  };
  for (int64_t i = 1; i < shares; ++i) pool.Schedule(decltype(take)(take));
  take();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done == shares; });
}

// Denormal numbers, to which a vanishing gradient falls, slow down every product.
struct FlushDenormals {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(before | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

using Scratch = std::unique_ptr<float[]>;

bool Is(const Buffer& buffer, std::initializer_list<int64_t> shape) {
  const auto is = buffer.dimensions();
  return std::equal(is.begin(), is.end(), shape.begin(), shape.end());
}

ffi::Error WrongShapes() {
  return ffi::Error::InvalidArgument("arrays of an LSTM do not go together");
}

// Packs a matrix with the gates side by side. For each kWidth units there is a panel
// for every kTogether gates, one after the other, with these gates for each row.
template <int kTogether>
void PackByGate(ffi::ThreadPool& pool, const float* w, int64_t rows, int64_t hidden,
                float* packed) {
  InParallel(pool, (hidden + kWidth - 1) / kWidth, [&](int64_t begin, int64_t end) {
    float* to = packed + begin * rows * kGates * kWidth;
    for (int64_t unit = begin * kWidth; unit < end * kWidth; unit += kWidth) {
      const int count = std::min<int64_t>(kWidth, hidden - unit);
      for (int first = 0; first < kGates; first += kTogether) {
        for (int64_t k = 0; k < rows; ++k) {
          for (int g = first; g < first + kTogether; ++g, to += kWidth) {
            const float* from = w + (k * kGates + g) * hidden + unit;
            *reinterpret_cast<Vec*>(to) = Load(from, count);
          }
        }
      }
    }
  });
}

// Panel p holds, for each of the 4H columns of U, kPair * kWidth of its rows.
Scratch PackTransposed(ffi::ThreadPool& pool, const float* u, int64_t hidden) {
  constexpr int64_t kUnits = kPair * kWidth, kBlock = 16;  // a block fits the cache
  const int64_t panels = (hidden + kUnits - 1) / kUnits, columns = 4 * hidden;
  Scratch packed(new float[panels * columns * kUnits]);
  InParallel(pool, panels, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      float* to = packed.get() + p * columns * kUnits;
      for (int64_t first = 0; first < columns; first += kBlock) {
        const int64_t last = std::min(first + kBlock, columns);
        for (int64_t i = 0; i < kUnits; ++i) {
          const int64_t row = p * kUnits + i;
          for (int64_t k = first; k < last; ++k) {
            to[k * kUnits + i] = row < hidden ? u[row * columns + k] : 0;
          }
        }
      }
    }
  });
  return packed;
}

// The gates of kWidth units before their nonlinearities, put through these, and the
// units' next state.
inline void Step(Vec (&gates)[kGates], Vec& c, Vec& h) {
  auto& [i, f, g, o] = gates;
  i = Sigmoid(i), f = Sigmoid(f), g = Tanh(g), o = Sigmoid(o);
  c = f * c + i * g;
  h = o * Tanh(c);
}

// y += x @ w, for one row of x.
void AddProduct(float* __restrict y, const float* x, const float* w, int64_t depth,
                int64_t columns) {
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
void RowProducts(float* __restrict y, const float* w, const float* x, int64_t rows,
                 int64_t columns) {
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
      const Vec x_k = *reinterpret_cast<const Vec*>(x + k);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        sums[r] += x_k * *reinterpret_cast<const Vec*>(from[r] + k);
      }
    }
    for (int r = 0; r < count; ++r) {
      float parts[kWidth];
      *reinterpret_cast<Vec*>(parts) = sums[r];
      for (int half = kWidth / 2; half; half /= 2) {
        for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
      }
      for (int64_t k = whole; k < columns; ++k) parts[0] += x[k] * from[r][k];
      y[row + r] = parts[0];
    }
  }
}

// Forward for a batch of one. Each weight takes part in one product a step, so packing
// them would cost as much as several steps. Sums are in another order than in a batch.
void ForwardOne(const float* z, const float* u, const float* c, const float* h,
                int64_t steps, int64_t hidden, float* gates, float* cs, float* hs) {
  const FlushDenormals flush;
  for (int64_t t = 0; t < steps; ++t) {
    if (gates != z) std::memcpy(gates, z, kGates * hidden * sizeof(float));
    AddProduct(gates, h, u, hidden, kGates * hidden);
    for (int64_t unit = 0; unit < hidden; unit += kWidth) {
      const int count = std::min<int64_t>(kWidth, hidden - unit);
      Vec opened[kGates], next_c = Load(c + unit, count), next_h;
      for (int g = 0; g < kGates; ++g) {
        opened[g] = Load(gates + g * hidden + unit, count);
      }
      Step(opened, next_c, next_h);
      Store(cs + unit, next_c, count);
      Store(hs + unit, next_h, count);
      for (int g = 0; g < kGates; ++g) {
        Store(gates + g * hidden + unit, opened[g], count);
      }
    }
    c = cs, h = hs;
    z += kGates * hidden, gates += kGates * hidden, cs += hidden, hs += hidden;
  }
}

ffi::Error Forward(ffi::ThreadPool pool, Buffer z_TxBxGH, Buffer u_HxGH, Buffer c_BxH,
                   Buffer h_BxH, Result gates_TxBxGH, Result c_TxBxH,
                   Result h_TxBxH) {
  const auto shape = h_TxBxH->dimensions();
  if (shape.size() != 3) return WrongShapes();
  const int64_t steps = shape[0], batch = shape[1], hidden = shape[2];
  if (!Is(z_TxBxGH, {steps, batch, kGates * hidden}) || !Is(c_BxH, {batch, hidden}) ||
      !Is(u_HxGH, {hidden, kGates * hidden}) || !Is(h_BxH, {batch, hidden})) {
    return WrongShapes();
  }
  const float* z = z_TxBxGH.typed_data();
  float* gates = gates_TxBxGH->typed_data();
  float* cs = c_TxBxH->typed_data();
  float* hs = h_TxBxH->typed_data();
  if (batch == 1) {
    ForwardOne(z, u_HxGH.typed_data(), c_BxH.typed_data(), h_BxH.typed_data(), steps,
               hidden, gates, cs, hs);
    return ffi::Error::Success();
  }
  const Scratch packed(new float[kGates * hidden * (hidden + kWidth)]);
  PackByGate<kPair>(pool, u_HxGH.typed_data(), hidden, hidden, packed.get());

  InParallel(pool, batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t now = t * batch * hidden, before = now - batch * hidden;
      const float* last_h = t ? hs + before : h_BxH.typed_data();
      const float* last_c = t ? cs + before : c_BxH.typed_data();
      for (int64_t unit = 0; unit < hidden; unit += kWidth) {
        const int count = std::min<int64_t>(kWidth, hidden - unit);
        const float* panel = packed.get() + unit * hidden * kGates;
        // Two gates at a time: more rows fit the registers, so the panels are read
        // less often.
        ForBlocks<kSums / kPair>(begin, end, [&](int64_t row, auto rows) {
          Vec i_f[rows()][kPair], g_o[rows()][kPair];
          for (int r = 0; r < rows(); ++r) {
            const float* from = z + kGates * (now + (row + r) * hidden) + unit;
            i_f[r][0] = Load(from, count);
            i_f[r][1] = Load(from + hidden, count);
            g_o[r][0] = Load(from + 2 * hidden, count);
            g_o[r][1] = Load(from + 3 * hidden, count);
          }
          const float* x = last_h + row * hidden;
          Multiply<rows()>(i_f, x, hidden, panel, hidden);
          Multiply<rows()>(g_o, x, hidden, panel + kPair * kWidth * hidden, hidden);
          for (int r = 0; r < rows(); ++r) {
            const int64_t at = (row + r) * hidden + unit;
            Vec opened[kGates] = {i_f[r][0], i_f[r][1], g_o[r][0], g_o[r][1]};
            Vec c = Load(last_c + at, count), h;
            Step(opened, c, h);
            Store(cs + now + at, c, count);
            Store(hs + now + at, h, count);
            float* to = gates + kGates * (now + (row + r) * hidden) + unit;
            for (int g = 0; g < kGates; ++g) Store(to + g * hidden, opened[g], count);
          }
        });
      }
    }
  });
  return ffi::Error::Success();
}

// The derivative of Step for some units of one row: dz, and dc in place of that of the
// step after. Not inlined, so that it rounds alike in blocks of any number of rows.
__attribute__((noinline)) void StepBack(Vec dh, const float* gates, const float* c,
                                        const float* last_c, float* dz, float* dc,
                                        int64_t hidden, int count) {
  const Vec i = Load(gates, count), f = Load(gates + hidden, count);
  const Vec g = Load(gates + 2 * hidden, count), o = Load(gates + 3 * hidden, count);
  const Vec tanh_c = Tanh(Load(c, count));
  const Vec all = Load(dc, count) + dh * o * (1 - tanh_c * tanh_c);
  Store(dz, all * g * i * (1 - i), count);
  Store(dz + hidden, all * Load(last_c, count) * f * (1 - f), count);
  Store(dz + 2 * hidden, all * i * (1 - g * g), count);
  Store(dz + 3 * hidden, dh * tanh_c * o * (1 - o), count);
  Store(dc, all * f, count);
}

// Backward for a batch of one; dc and edge_dh are those after the last step, and become
// those of the first state.
void BackwardOne(const float* gates, const float* u, const float* first_c,
                 const float* cs, const float* dhs, int64_t steps, int64_t hidden,
                 float* dz, float* dc, float* edge_dh) {
  const FlushDenormals flush;
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t now = t * hidden;
    const float* last_c = t ? cs + now - hidden : first_c;
    for (int64_t unit = 0; unit < hidden; unit += kWidth) {
      const int count = std::min<int64_t>(kWidth, hidden - unit);
      const Vec dh = Load(edge_dh + unit, count) + Load(dhs + now + unit, count);
      const int64_t gate = kGates * now + unit;
      StepBack(dh, gates + gate, cs + now + unit, last_c + unit, dz + gate, dc + unit,
               hidden, count);
    }
    RowProducts(edge_dh, u, dz + kGates * now, hidden, kGates * hidden);
  }
}

ffi::Error Backward(ffi::ThreadPool pool, Buffer gates_TxBxGH, Buffer u_HxGH,
                    Buffer c_BxH, Buffer c_TxBxH, Buffer dh_TxBxH, Buffer dc_BxH,
                    Buffer dh_BxH, Result dz_TxBxGH, Result dc0_BxH, Result dh0_BxH) {
  const auto shape = dh_TxBxH.dimensions();
  if (shape.size() != 3) return WrongShapes();
  const int64_t steps = shape[0], batch = shape[1], hidden = shape[2];
  if (!Is(gates_TxBxGH, {steps, batch, kGates * hidden}) ||
      !Is(u_HxGH, {hidden, kGates * hidden}) || !Is(c_BxH, {batch, hidden}) ||
      !Is(c_TxBxH, {steps, batch, hidden}) || !Is(dc_BxH, {batch, hidden}) ||
      !Is(dh_BxH, {batch, hidden})) {
    return WrongShapes();
  }
  const float* gates = gates_TxBxGH.typed_data();
  const float* cs = c_TxBxH.typed_data();
  const float* dhs = dh_TxBxH.typed_data();
  float* dz = dz_TxBxGH->typed_data();
  float* dc = dc0_BxH->typed_data();  // at each step that of the step after it
  float* edge_dh = dh0_BxH->typed_data();  // first that after the last step
  const size_t bytes = batch * hidden * sizeof(float);
  if (dc != dc_BxH.typed_data()) std::memcpy(dc, dc_BxH.typed_data(), bytes);
  if (edge_dh != dh_BxH.typed_data()) {
    std::memcpy(edge_dh, dh_BxH.typed_data(), bytes);
  }
  if (batch == 1) {
    BackwardOne(gates, u_HxGH.typed_data(), c_BxH.typed_data(), cs, dhs, steps, hidden,
                dz, dc, edge_dh);
    return ffi::Error::Success();
  }
  const Scratch packed = PackTransposed(pool, u_HxGH.typed_data(), hidden);

  InParallel(pool, batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    // Step -1 is the derivative with respect to the first state.
    for (int64_t t = steps - 1; t >= -1; --t) {
      const int64_t now = t * batch * hidden, after = now + batch * hidden;
      const float* last_c = t > 0 ? cs + now - batch * hidden : c_BxH.typed_data();
      for (int64_t first = 0; first < hidden; first += kPair * kWidth) {
        const float* panel = packed.get() + first * 4 * hidden;
        ForBlocks<kSums / kPair>(begin, end, [&](int64_t row, auto rows) {
          Vec acc[rows()][kPair] = {};
          if (t < steps - 1) {
            Multiply<rows()>(acc, dz + 4 * (after + row * hidden), 4 * hidden, panel,
                             4 * hidden);
          }
          for (int r = 0; r < rows(); ++r) {
            for (int v = 0; v < kPair; ++v) {
              const int64_t unit = first + v * kWidth;
              const int count = std::min<int64_t>(kWidth, hidden - unit);
              if (count <= 0) break;
              const int64_t at = (row + r) * hidden + unit;
              if (t < 0) {
                Store(edge_dh + at, acc[r][v], count);
                continue;
              }
              Vec dh = acc[r][v] + Load(dhs + now + at, count);
              if (t == steps - 1) dh += Load(edge_dh + at, count);
              const int64_t gate = kGates * (now + (row + r) * hidden) + unit;
              StepBack(dh, gates + gate, cs + now + at, last_c + at, dz + gate, dc + at,
                       hidden, count);
            }
          }
        });
      }
    }
  });
  return ffi::Error::Success();
}

// Packs weights for Draw: for each layer those of its own last output, and above the
// first layer before these those of the output of the layer below.
ffi::Error Pack(ffi::ThreadPool pool, Buffer w_KxGH, Result packed) {
  const auto shape = w_KxGH.dimensions();
  if (shape.size() != 2) return WrongShapes();
  const int64_t vectors = (shape[1] / kGates + kWidth - 1) / kWidth;
  if (packed->element_count() < size_t(shape[0] * kGates * vectors * kWidth)) {
    return WrongShapes();
  }
  PackByGate<kGates>(pool, w_KxGH.typed_data(), shape[0], shape[1] / kGates,
                     packed->typed_data());
  return ffi::Error::Success();
}

// Draws the first `count` characters of each row and reads each with all layers. The
// other ids are 0. State_Lx2xBxH holds c and h of each layer.
ffi::Error Draw(ffi::ThreadPool pool, Integers count, Buffer temperature,
                Buffer noise_PxBxV, Buffer logits_BxV, Buffer state_Lx2xBxH,
                Buffer z_VxGH, Buffer packed, Buffer bias_LxGH, Buffer readout_HxV,
                Buffer bias_V, ffi::Result<Integers> ids_PxB, Result new_logits_BxV,
                Result new_state_Lx2xBxH) {
  const auto shape = state_Lx2xBxH.dimensions();
  if (shape.size() != 4) return WrongShapes();
  const int64_t layers = shape[0], batch = shape[2], hidden = shape[3];
  const int64_t symbols = bias_V.element_count(), size = batch * hidden;
  const int64_t padded = packed.element_count() / (hidden * (2 * layers - 1));
  if (!Is(noise_PxBxV, {ids_PxB->dimensions()[0], batch, symbols}) ||
      !Is(logits_BxV, {batch, symbols}) || !Is(z_VxGH, {symbols, kGates * hidden}) ||
      !Is(bias_LxGH, {layers, kGates * hidden}) ||
      !Is(readout_HxV, {hidden, symbols}) || padded < kGates * hidden) {
    return WrongShapes();
  }
  float* logits = new_logits_BxV->typed_data();
  float* state = new_state_Lx2xBxH->typed_data();
  int32_t* ids = ids_PxB->typed_data();
  std::memset(ids, 0, ids_PxB->size_bytes());
  std::memcpy(logits, logits_BxV.typed_data(), logits_BxV.size_bytes());
  std::memcpy(state, state_Lx2xBxH.typed_data(), state_Lx2xBxH.size_bytes());
  const Scratch next(new float[size]);  // a layer's h, while its last h is still read

  InParallel(pool, batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    for (int64_t step = 0; step < count.typed_data()[0]; ++step) {
      int32_t* drawn = ids + step * batch;
      for (int64_t row = begin; row < end; ++row) {
        const float* noise = noise_PxBxV.typed_data() + (step * batch + row) * symbols;
        float* scores = logits + row * symbols;
        for (int64_t s = 0; s < symbols; ++s) {
          scores[s] += temperature.typed_data()[0] * noise[s];
        }
        drawn[row] = std::max_element(scores, scores + symbols) - scores;
      }
      for (int64_t layer = 0; layer < layers; ++layer) {
        const float* weights = packed.typed_data();
        if (layer) weights += (2 * layer - 1) * hidden * padded;
        const float* bias = bias_LxGH.typed_data() + layer * kGates * hidden;
        float* c = state + 2 * layer * size;
        float* h = c + size;
        const int64_t depth = layer ? 2 * hidden : hidden;
        for (int64_t unit = 0; unit < hidden; unit += kWidth) {
          const int units = std::min<int64_t>(kWidth, hidden - unit);
          const float* panel = weights + unit * depth * kGates;
          ForBlocks<kSums / kGates>(begin, end, [&](int64_t row, auto rows) {
            Vec sums[rows()][kGates];
            for (int r = 0; r < rows(); ++r) {
              const float* from = bias;
              if (!layer) from = z_VxGH.typed_data() + drawn[row + r] * kGates * hidden;
              for (int g = 0; g < kGates; ++g) {
                sums[r][g] = Load(from + g * hidden + unit, units);
              }
            }
            const float* own = panel;
            if (layer) {
              const float* below = c - size + row * hidden;
              Multiply<rows()>(sums, below, hidden, panel, hidden);
              own += hidden * kGates * kWidth;
            }
            Multiply<rows()>(sums, h + row * hidden, hidden, own, hidden);
            for (int r = 0; r < rows(); ++r) {
              const int64_t at = (row + r) * hidden + unit;
              Vec unit_c = Load(c + at, units), unit_h;
              Step(sums[r], unit_c, unit_h);
              Store(c + at, unit_c, units);
              Store(next.get() + at, unit_h, units);
            }
          });
        }
        std::copy(next.get() + begin * hidden, next.get() + end * hidden,
                  h + begin * hidden);
      }
      const float* h = state + (2 * layers - 1) * size;
      for (int64_t row = begin; row < end; ++row) {
        float* to = logits + row * symbols;
        std::memcpy(to, bias_V.typed_data(), bias_V.size_bytes());
        AddProduct(to, h + row * hidden, readout_HxV.typed_data(), hidden, symbols);
      }
    }
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    CharjaxLstmPack, Pack,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Buffer>().Ret<Buffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(CharjaxLstmDraw, Draw,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Integers>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Integers>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(CharjaxLstmForward, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(CharjaxLstmBackward, Backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>());
