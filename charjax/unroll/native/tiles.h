// Products of bfloat16 in a CPU's matrix unit (Intel's AMX), which multiplies tiles of
// 16 rows by 32 numbers with tiles of as many numbers by 16 columns.
//
// A tile of weights is 16 rows of a panel of product.h, as it lies there. Sums do not
// depend on how rows are put together.

#ifndef CHARJAX_TILES_H_
#define CHARJAX_TILES_H_

#include "vector.h"

#ifdef CHARJAX_HAS_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace charjax {

#ifdef CHARJAX_HAS_TILES

constexpr int kTileRows = 16;

// Says that instructions which the compiler does not look into read what is there.
inline void IsRead(const void* at) { __asm__ volatile("" : : "r"(at) : "memory"); }

// Asks the system once for the registers of tiles. Where it refuses, sums are rounded
// otherwise.
inline bool MayUseTiles() {
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  static const bool may = syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  return may;
}

// The shapes of this thread's tiles while it multiplies a share of the rows.
class Tiles {
 public:
  Tiles() = default;
  Tiles(const Tiles&) = delete;
  ~Tiles() {
    if (Rows()) _tile_release();
    Rows() = 0;
  }

  // Makes them those of a product of this many rows, at most two tiles of them: 0 to 3
  // are sums, 4 and 5 the rows, 6 and 7 weights.
  static void SetRows(int64_t count) {
    if (Rows() == count) return;
    Rows() = count;
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } shapes;
    const uint8_t upper = count < kTileRows ? count : kTileRows, lower = count - upper;
    const uint8_t rows[] = {upper, upper, lower, lower, upper, lower, 16, 16};
    for (int i = 0; i < 8; ++i) {
      shapes.rows[i] = rows[i];
      shapes.bytes[i] = rows[i] ? 64 : 0;
    }
    IsRead(&shapes);
    _tile_loadconfig(&shapes);
  }

 private:
  static int64_t& Rows() {
    static thread_local int64_t rows = 0;
    return rows;
  }
};

// sums[row][v] += x @ panel for one or two of the panel's vectors, and as many tiles of
// rows. Rows of x are `stride` apart, those of the panel and of the sums kVectors.
template <int kVectors, bool kTwoRows, bool kTwoColumns>
void MultiplyTiles(const Pair* x, int64_t stride, const Pair* panel, int64_t depth,
                   Vec* sums) {
  constexpr int64_t kStep = kVectors * sizeof(Vec);
  Vec* lower = sums + kTileRows * kVectors;
  IsRead(sums);
  _tile_loadd(0, sums, kStep);
  if constexpr (kTwoColumns) _tile_loadd(1, sums + 1, kStep);
  if constexpr (kTwoRows) _tile_loadd(2, lower, kStep);
  if constexpr (kTwoRows && kTwoColumns) _tile_loadd(3, lower + 1, kStep);
  for (int64_t k = 0; k < depth; k += kWidth) {
    const Pair* weights = panel + k * kVectors * kWidth;
    _tile_loadd(4, x + k, stride * sizeof(Pair));
    _tile_loadd(6, weights, kStep);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kTwoRows) {
      _tile_loadd(5, x + kTileRows * stride + k, stride * sizeof(Pair));
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kTwoColumns) {
      _tile_loadd(7, weights + kWidth, kStep);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTwoRows && kTwoColumns) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kStep);
  if constexpr (kTwoColumns) _tile_stored(1, sums + 1, kStep);
  if constexpr (kTwoRows) _tile_stored(2, lower, kStep);
  if constexpr (kTwoRows && kTwoColumns) _tile_stored(3, lower + 1, kStep);
}

// The same for all of the panel's vectors, and up to two tiles of rows.
template <int kVectors, int kFirst = 0>
void MultiplyInTiles(int64_t count, const Pair* x, int64_t stride, const Pair* panel,
                     int64_t depth, Vec* sums) {
  if constexpr (kFirst == 0) Tiles::SetRows(count);
  if constexpr (kFirst < kVectors) {
    constexpr bool kTwo = kFirst + 1 < kVectors;
    const auto multiply = count > kTileRows ? MultiplyTiles<kVectors, true, kTwo>
                                            : MultiplyTiles<kVectors, false, kTwo>;
    multiply(x, stride, panel + kFirst * kWidth, depth, sums + kFirst);
    MultiplyInTiles<kVectors, kFirst + 2>(count, x, stride, panel, depth, sums);
  }
}

#else

struct Tiles {};

#endif

}  // namespace charjax

#endif  // CHARJAX_TILES_H_
