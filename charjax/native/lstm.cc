// The recurrence of an LSTM layer on CPU: all time steps of a share of the batch, per
// thread, with the gates' nonlinearities in the epilogue of the recurrent product.
//
// Threads share no state, so that they meet once a call and not once a time step. The
// weights are packed once a call into panels that the inner loop reads in order; what
// XLA's own loop cannot keep from one step to the next. The equations are in
// charjax/cells/lstm.py; a row is one text of the batch.

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
using Result = ffi::Result<Buffer>;

// A vector of the widest kind the machine has, and of how many rows a product with two
// of them fits its registers.
#if defined(__AVX512F__)
constexpr int kWidth = 16, kRows = 12;
#elif defined(__AVX__)
constexpr int kWidth = 8, kRows = 6;
#else
constexpr int kWidth = 4, kRows = 6;
#endif
constexpr int kPair = 2;  // vectors side by side in a panel
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

// acc += x @ panel, for kCount rows of x that lie `stride` apart.
template <int kCount>
inline void Multiply(Vec (&acc)[kCount][kPair], const float* x, int64_t stride,
                     const float* panel, int64_t depth) {
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k, panel += kPair * kWidth) {
    Vec first = *reinterpret_cast<const Vec*>(panel);
    Vec second = *reinterpret_cast<const Vec*>(panel + kWidth);
#pragma GCC unroll 12
    for (int r = 0; r < kCount; ++r) {
      const float x_rk = x[r * stride + k];
      acc[r][0] += x_rk * first;
      acc[r][1] += x_rk * second;
    }
  }
}

// Calls f(first row, count) for blocks of at most kRows rows, as equal as can be: a
// small one would leave the pipelines half empty.
template <int kCount = kRows, typename F>
inline void CallBlock(int64_t row, int64_t count, const F& f) {
  if (count == kCount) return f(row, std::integral_constant<int, kCount>());
  if constexpr (kCount > 1) CallBlock<kCount - 1>(row, count, f);
}

template <typename F>
inline void ForBlocks(int64_t begin, int64_t end, const F& f) {
  const int64_t rows = end - begin, blocks = (rows + kRows - 1) / kRows;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t row = rows * i / blocks;
    CallBlock(begin + row, rows * (i + 1) / blocks - row, f);
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

// Denormal numbers, which a fading gradient ends in, would slow every product down.
struct FlushDenormals {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(before | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

using Scratch = std::unique_ptr<float[]>;

// Panel p holds, for each of the H rows of U, gates i and f of kWidth units, and after
// these, for each row again, gates g and o.
Scratch PackByGate(ffi::ThreadPool& pool, const float* u, int64_t hidden) {
  const int64_t panels = (hidden + kWidth - 1) / kWidth, size = hidden * 4 * kWidth;
  Scratch packed(new float[panels * size]);
  InParallel(pool, panels, [&](int64_t begin, int64_t end) {
    float* to = packed.get() + begin * size;
    for (int64_t p = begin; p < end; ++p) {
      const int count = std::min<int64_t>(kWidth, hidden - p * kWidth);
      for (int pair = 0; pair < 4; pair += kPair) {
        for (int64_t k = 0; k < hidden; ++k) {
          for (int g = pair; g < pair + kPair; ++g, to += kWidth) {
            *reinterpret_cast<Vec*>(to) =
                Load(u + (k * 4 + g) * hidden + p * kWidth, count);
          }
        }
      }
    }
  });
  return packed;
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

ffi::Error Forward(ffi::ThreadPool pool, Buffer z_TxBxGH, Buffer u_HxGH, Buffer c_BxH,
                   Buffer h_BxH, Result gates_TxBxGH, Result c_TxBxH,
                   Result h_TxBxH) {
  const auto shape = z_TxBxGH.dimensions();
  const int64_t steps = shape[0], batch = shape[1], hidden = shape[2] / 4;
  const Scratch packed = PackByGate(pool, u_HxGH.typed_data(), hidden);
  const float* z = z_TxBxGH.typed_data();
  float* gates = gates_TxBxGH->typed_data();
  float* cs = c_TxBxH->typed_data();
  float* hs = h_TxBxH->typed_data();

  InParallel(pool, batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t now = t * batch * hidden, before = now - batch * hidden;
      const float* last_h = t ? hs + before : h_BxH.typed_data();
      const float* last_c = t ? cs + before : c_BxH.typed_data();
      for (int64_t unit = 0; unit < hidden; unit += kWidth) {
        const int count = std::min<int64_t>(kWidth, hidden - unit);
        const float* panel = packed.get() + unit * hidden * 4;
        ForBlocks(begin, end, [&](int64_t row, auto rows) {
          Vec i_f[rows()][kPair], g_o[rows()][kPair];
          for (int r = 0; r < rows(); ++r) {
            const float* from = z + 4 * (now + (row + r) * hidden) + unit;
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
            const Vec i = Sigmoid(i_f[r][0]), f = Sigmoid(i_f[r][1]);
            const Vec g = Tanh(g_o[r][0]), o = Sigmoid(g_o[r][1]);
            const Vec c = f * Load(last_c + at, count) + i * g;
            Store(cs + now + at, c, count);
            Store(hs + now + at, o * Tanh(c), count);
            float* to = gates + 4 * (now + (row + r) * hidden) + unit;
            Store(to, i, count);
            Store(to + hidden, f, count);
            Store(to + 2 * hidden, g, count);
            Store(to + 3 * hidden, o, count);
          }
        });
      }
    }
  });
  return ffi::Error::Success();
}

ffi::Error Backward(ffi::ThreadPool pool, Buffer gates_TxBxGH, Buffer u_HxGH,
                    Buffer c_BxH, Buffer c_TxBxH, Buffer dh_TxBxH, Buffer dc_BxH,
                    Buffer dh_BxH, Result dz_TxBxGH, Result dc0_BxH, Result dh0_BxH) {
  const auto shape = gates_TxBxGH.dimensions();
  const int64_t steps = shape[0], batch = shape[1], hidden = shape[2] / 4;
  const Scratch packed = PackTransposed(pool, u_HxGH.typed_data(), hidden);
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

  InParallel(pool, batch, [&](int64_t begin, int64_t end) {
    const FlushDenormals flush;
    // Step -1 is the derivative with respect to the first state.
    for (int64_t t = steps - 1; t >= -1; --t) {
      const int64_t now = t * batch * hidden, after = now + batch * hidden;
      const float* last_c = t > 0 ? cs + now - batch * hidden : c_BxH.typed_data();
      for (int64_t first = 0; first < hidden; first += kPair * kWidth) {
        const float* panel = packed.get() + first * 4 * hidden;
        ForBlocks(begin, end, [&](int64_t row, auto rows) {
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
              const int64_t gate = 4 * (now + (row + r) * hidden) + unit;
              Vec dh = acc[r][v] + Load(dhs + now + at, count);
              if (t == steps - 1) dh += Load(edge_dh + at, count);
              const Vec i = Load(gates + gate, count);
              const Vec f = Load(gates + gate + hidden, count);
              const Vec g = Load(gates + gate + 2 * hidden, count);
              const Vec o = Load(gates + gate + 3 * hidden, count);
              const Vec tanh_c = Tanh(Load(cs + now + at, count));
              const Vec all = Load(dc + at, count) + dh * o * (1 - tanh_c * tanh_c);
              const Vec last = Load(last_c + at, count);
              Store(dz + gate, all * g * i * (1 - i), count);
              Store(dz + gate + hidden, all * last * f * (1 - f), count);
              Store(dz + gate + 2 * hidden, all * i * (1 - g * g), count);
              Store(dz + gate + 3 * hidden, dh * tanh_c * o * (1 - o), count);
              Store(dc + at, all * f, count);
            }
          }
        });
      }
    }
  });
  return ffi::Error::Success();
}

}  // namespace

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
