// Products of rows with packed weights, whose tiles of sums stay in the registers.
//
// Weights are packed once into panels that the inner loop reads in order. A panel has,
// for each factor along the sum, a few vectors of columns side by side.

#ifndef CHARJAX_PRODUCT_H_
#define CHARJAX_PRODUCT_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "tiles.h"
#include "vector.h"

namespace charjax {

// sums[row][vector] += x @ panel, for kCount rows of x that are `stride` apart.
template <int kCount, int kVectors, typename Factor>
__attribute__((noinline)) void MultiplyRows(const Factor* x, int64_t stride,
                                            const Factor* panel, int64_t depth,
                                            Vec* all_sums) {
  Vec sums[kCount][kVectors];
  std::memcpy(sums, all_sums, sizeof(sums));
#pragma GCC unroll 4
  for (int64_t k = 0; k < depth; ++k, panel += kVectors * kWidth) {
    Vec weights[kVectors];
#pragma GCC unroll 6
    for (int v = 0; v < kVectors; ++v) {
      weights[v] = *reinterpret_cast<const Vec*>(panel + v * kWidth);
    }
#pragma GCC unroll 12
    for (int r = 0; r < kCount; ++r) {
      const Factor x_rk = x[r * stride + k];
#pragma GCC unroll 6
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = AddProducts(sums[r][v], x_rk, weights[v]);
      }
    }
  }
  std::memcpy(all_sums, sums, sizeof(sums));
}

// The same for any number of rows up to kMost.
template <int kVectors, int kMost = kSums / kVectors, typename Factor>
inline void Multiply(int64_t count, const Factor* x, int64_t stride,
                     const Factor* panel, int64_t depth, Vec* sums) {
  if (count == kMost) {
    return MultiplyRows<kMost, kVectors>(x, stride, panel, depth, sums);
  }
  if constexpr (kMost > 1) {
    Multiply<kVectors, kMost - 1>(count, x, stride, panel, depth, sums);
  }
}

// How many rows of x the sums of kVectors columns are computed for at once.
template <int kVectors, typename Factor>
constexpr int kRowsAtOnce = kSums / kVectors;

#ifdef CHARJAX_HAS_TILES
template <int kVectors>
constexpr int kRowsAtOnce<kVectors, Pair> = 2 * kTileRows;

template <int kVectors>
inline void Multiply(int64_t count, const Pair* x, int64_t stride, const Pair* panel,
                     int64_t depth, Vec* sums) {
  if (!count) return;  // there are no tiles of no rows
  if (MayUseTiles()) {
    return MultiplyInTiles<kVectors>(count, x, stride, panel, depth, sums);
  }
  constexpr int kMost = kSums / kVectors;
  ForBlocks(0, count, kMost, [&](int64_t row, int64_t rows) {
    Multiply<kVectors, kMost>(rows, x + row * stride, stride, panel, depth,
                              sums + row * kVectors);
  });
}
#endif

// Packs at most kWidth columns of a matrix, whose rows are `stride` apart, into one of
// the vectors of a panel; the next row's is `step` further.
template <typename Factor>
void PackVector(const float* w, int64_t stride, int64_t depth, int64_t count,
                Factor* to, int64_t step) {
  const auto row = [&](int64_t k) {
    return k < depth ? Load(w + k * stride, count) : Vec{};
  };
  for (int64_t i = 0; i < Depth<Factor>(depth); ++i, to += step) {
    const int64_t k = i * kNumbers<Factor>;
    *reinterpret_cast<Vec*>(to) = ColumnFactors<Factor>(row(k), row(k + 1));
  }
}

// Writes the transpose of `count` rows of a matrix: from row i the factors to[k][i].
template <typename Factor>
void PackTransposed(const float* w, int64_t stride, int64_t depth, int64_t count,
                    Factor* to, int64_t step) {
  constexpr int64_t kBlock = 32;  // numbers of each row, so that all fit the cache
  Factor row[kBlock] = {};
  for (int64_t first = 0; first < depth; first += kBlock) {
    const int64_t numbers = std::min(kBlock, depth - first);
    for (int64_t i = 0; i < kWidth; ++i) {
      if (i < count) ToFactors(w + i * stride + first, numbers, row);
      Factor* column = to + first / kNumbers<Factor> * step + i;
      for (int64_t k = 0; k < Depth<Factor>(numbers); ++k) {
        column[k * step] = i < count ? row[k] : Factor{};
      }
    }
  }
}

// Calls f(row, unit) for each row and each vector of the units from `first` on.
template <typename F>
inline void ForVectors(int64_t rows, int64_t first, int64_t end, const F& f) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t unit = first; unit < end; unit += kWidth) f(row, unit);
  }
}

// A matrix with kGates gates side by side, each of the same units, in panels that have
// kTogether gates of kSpan vectors of units. Without gates it is a matrix of one gate.
template <typename Factor, int kGates, int kTogether, int kSpan>
struct Panels {
  static constexpr int kVectors = kTogether * kSpan;
  static constexpr int kRows = kRowsAtOnce<kVectors, Factor>;
  static constexpr int kUnits = kSpan * kWidth;

  // How many factors it takes.
  static int64_t Size(int64_t depth, int64_t units) {
    return (units + kUnits - 1) / kUnits * kUnits * kGates * Depth<Factor>(depth);
  }

  // Packs w, or the transpose of w, which has one gate.
  static void Pack(ffi::ThreadPool& pool, const float* w, int64_t depth, int64_t units,
                   Factor* packed, bool transposed = false) {
    constexpr int64_t step = kVectors * kWidth;
    InParallel(pool, (units + kUnits - 1) / kUnits, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin * kUnits; first < end * kUnits; first += kUnits) {
        for (int i = 0; i < kGates * kSpan; ++i) {
          const int gate = i / kSpan;
          const int64_t unit = first + i % kSpan * kWidth;
          Factor* to = packed + first * kGates * Depth<Factor>(depth) +
                       gate / kTogether * Depth<Factor>(depth) * step +
                       (gate % kTogether * kSpan + i % kSpan) * kWidth;
          if (transposed) {
            PackTransposed(w + unit * depth, depth, depth, units - unit, to, step);
          } else {
            PackVector(w + gate * units + unit, kGates * units, depth, units - unit, to,
                       step);
          }
        }
      }
    });
  }

  // The products of some rows with the weights of kUnits units.
  struct Sums {
    alignas(64) Vec sums[kGates / kTogether][kRows * kVectors];

    explicit Sums(int64_t count) {
      for (auto& pass : sums) std::fill(pass, pass + count * kVectors, Vec{});
    }

    // Adds those of `count` rows of x with the weights of `unit` and those after it.
    void Add(int64_t count, const Factor* x, int64_t stride, const Factor* packed,
             int64_t depth, int64_t unit) {
      const Factor* panel = packed + unit * kGates * depth;
      for (auto& pass : sums) {
        Multiply<kVectors>(count, x, stride, panel, depth, pass);
        panel += depth * kVectors * kWidth;
      }
    }

    // Copies those of all gates, for one row and a vector of units.
    void Get(int64_t row, int64_t unit, Vec (&gates)[kGates]) const {
      for (int g = 0; g < kGates; ++g) {
        const int vector = g % kTogether * kSpan + unit / kWidth;
        gates[g] = sums[g / kTogether][row * kVectors + vector];
      }
    }

    // Calls f(row, unit, sums of its gates) for each row, and each vector of the units
    // that there are of those from `first` on.
    template <typename F>
    void ForEach(int64_t count, int64_t first, int64_t units, const F& f) const {
      const int64_t end = std::min(units, first + kUnits);
      ForVectors(count, first, end, [&](int64_t row, int64_t unit) {
        Vec gates[kGates];
        Get(row, unit - first, gates);
        f(row, unit, gates);
      });
    }
  };
};

#ifdef CHARJAX_HAS_BFLOAT16

// A matrix in row-major order, or the transpose of one.
struct Matrix {
  const float* at;
  bool transposed;
};

// Writes pairs of the numbers of some columns of a matrix as rows, `depth` pairs each.
inline void ColumnsToRows(const float* a, int64_t stride, int64_t numbers,
                          int64_t count, Pair* rows, int64_t depth) {
  constexpr int64_t kBlock = 16;
  for (int64_t column = 0; column < count; column += kWidth) {
    for (int64_t first = 0; first < depth; first += kBlock) {
      const int64_t here = std::min(kBlock, depth - first);
      Pair block[kBlock][kWidth];
      PackVector(a + 2 * first * stride + column, stride,
                 std::min(2 * here, numbers - 2 * first), count - column, block[0],
                 kWidth);
      const int64_t columns = std::min<int64_t>(kWidth, count - column);
      for (int64_t i = 0; i < columns; ++i) {
        Pair* to = rows + (column + i) * depth + first;
        for (int64_t k = 0; k < here; ++k) to[k] = block[k][i];
      }
    }
  }
}

// to = x @ panel, or += where the sum goes on; `count` rows, `columns` columns or more.
inline void MultiplyTile(int64_t count, const Pair* x, int64_t depth, const Pair* panel,
                         float* to, int64_t stride, int64_t columns, bool goes_on) {
  Vec sums[2 * kRowsAtOnce<2, Pair>] = {};
  for (int64_t i = 0; !goes_on && i < 2 * count; ++i) {
    Prefetch(to + i / 2 * stride + i % 2 * kWidth);
  }
  for (int64_t i = 0; goes_on && i < 2 * count; ++i) {
    const int64_t n = i % 2 * kWidth;
    sums[i] = Load(to + i / 2 * stride + n, columns - n);
  }
  Multiply<2>(count, x, depth, panel, depth, sums);
  for (int64_t i = 0; i < 2 * count; ++i) {
    const int64_t n = i % 2 * kWidth;
    Store(to + i / 2 * stride + n, sums[i], columns - n);
  }
}

// c = a @ b for a of M x K and b of K x N, rounded to bfloat16, with sums in float32.
// The order of a sum does not depend on the number of threads.
inline void Product(ffi::ThreadPool& pool, Matrix a, Matrix b, float* c, int64_t M,
                    int64_t N, int64_t K, Pair* packed) {
  using Columns = Panels<Pair, 1, 1, 2>;
  constexpr int64_t kDepth = 512, kChunk = 96;  // such a piece of a fits the L2 cache
  Columns::Pack(pool, b.at, K, N, packed, b.transposed);
  InParallel(pool, M, [&](int64_t begin, int64_t end) {
    const Tiles tiles;
    std::vector<Pair> rows(kChunk * kDepth);
    constexpr int64_t kStep = kAtOnce<Pair>;
    ForBlocks(0, Depth<Pair>(K) / kStep, kDepth / kStep, [&](int64_t i, int64_t steps) {
      const int64_t first = kStep * i, depth = kStep * steps;
      const int64_t k = 2 * first, numbers = std::min(2 * depth, K - k);
      for (int64_t m = begin; m < end; m += kChunk) {
        const int64_t count = std::min(kChunk, end - m);
        if (a.transposed) {
          ColumnsToRows(a.at + k * M + m, M, numbers, count, rows.data(), depth);
        }
        for (int64_t i = 0; i < count && !a.transposed; ++i) {
          ToFactors(a.at + (m + i) * K + k, numbers, rows.data() + i * depth);
        }
        for (int64_t n = 0; n < N; n += Columns::kUnits) {
          const Pair* panel = packed + n * Depth<Pair>(K) + first * Columns::kUnits;
          for (int64_t i = 0; i < count; i += Columns::kRows) {
            MultiplyTile(std::min<int64_t>(Columns::kRows, count - i),
                         rows.data() + i * depth, depth, panel, c + (m + i) * N + n, N,
                         N - n, first > 0);
          }
        }
      }
    });
  });
}

#endif  // CHARJAX_HAS_BFLOAT16

}  // namespace charjax

#endif  // CHARJAX_PRODUCT_H_
