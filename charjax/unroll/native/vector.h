// Vectors of the widest kind that the machine has, nonlinearities, and factors of
// products: floats, or pairs of bfloat16 where the CPU multiplies these.

#ifndef CHARJAX_VECTOR_H_
#define CHARJAX_VECTOR_H_

#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <immintrin.h>
#endif

namespace charjax {

// How many floats a vector has, and how many sums of products fit the registers.
#if defined(__AVX512F__)
constexpr int kWidth = 16, kSums = 24;
#elif defined(__AVX__)
constexpr int kWidth = 8, kSums = 12;
#else
constexpr int kWidth = 4, kSums = 12;
#endif
typedef float Vec __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));

inline Vec Load(const float* from) { return *reinterpret_cast<const Vec*>(from); }

inline void Store(float* to, Vec value) { *reinterpret_cast<Vec*>(to) = value; }

// The first `count` numbers alone, of which there may be more than a vector holds.
inline Vec Load(const float* from, int64_t count) {
  if (count >= kWidth) return Load(from);
  float padded[kWidth] = {};
  for (int i = 0; i < count; ++i) padded[i] = from[i];
  return Load(padded);
}

inline void Store(float* to, Vec value, int64_t count) {
  if (count >= kWidth) return Store(to, value);
  for (int i = 0; i < count; ++i) to[i] = value[i];
}

// Asks for the cache line of a number that will be read or written soon.
inline void Prefetch(const float* at) { __builtin_prefetch(at, 1); }

// a / b for a b that is neither tiny nor huge, within a rounding: a division takes longer
// than all the rest of a tanh.
__attribute__((always_inline)) inline Vec Divide(Vec a, Vec b) {
#if defined(__AVX512F__)
  Vec reciprocal = (Vec)_mm512_rcp14_ps((__m512)b);
  reciprocal += reciprocal * (1 - b * reciprocal);
  const Vec quotient = a * reciprocal;
  return quotient + reciprocal * (a - b * quotient);
#else
  return a / b;
#endif
}

// The rational approximation of tanh that Eigen and XLA use, within 4e-7 of it.
__attribute__((always_inline)) inline Vec Tanh(Vec x) {
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
  return Divide(x * p, q);
}

__attribute__((always_inline)) inline Vec Sigmoid(Vec x) { return 0.5f * Tanh(0.5f * x) + 0.5f; }

// e^x for x of 0 or less, within 2e-7 of it; 0 below -87.
inline Vec Exp(Vec x) {
  typedef int32_t Bits __attribute__((vector_size(4 * kWidth)));
  const Vec least = Vec{} - 87.0f;
  const Vec in_range = x < least ? least : x;
  // e^x = 2^n e^r with n whole, and r at most half of log 2.
  const Bits n = __builtin_convertvector(in_range * 1.44269504f - 0.5f, Bits);
  const Vec whole = __builtin_convertvector(n, Vec);
  const Vec r = in_range - whole * 0.693359375f + whole * 2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Vec e_r = p * r * r + r + 1;
  const Vec power = (Vec)((n + 127) << 23);
  return x < least ? Vec{} : e_r * power;
}

// What a product multiplies is a float, or a pair of bfloat16: two numbers that follow
// each other along the axis of the sum. A `Factor` is one of the two types. Both have
// the size of a float, so a vector of either is a Vec, and all layouts are the same.
template <typename Factor>
constexpr int kNumbers = 1;
// How many factors of a sum are multiplied at once.
template <typename Factor>
constexpr int kAtOnce = 1;

inline Vec AddProducts(Vec sums, float x, Vec weights) { return sums + x * weights; }

#if defined(__AVX512BF16__)
#define CHARJAX_HAS_BFLOAT16 1
#if defined(__linux__) && defined(__AMX_TILE__) && defined(__AMX_BF16__)
#define CHARJAX_HAS_TILES 1  // see tiles.h
#endif
struct Pair {
  uint32_t bits;  // the first number is the lower half
};
template <>
inline constexpr int kNumbers<Pair> = 2;
#ifdef CHARJAX_HAS_TILES
template <>
inline constexpr int kAtOnce<Pair> = kWidth;
#endif

inline Vec AddProducts(Vec sums, Pair x, Vec weights) {
  return (Vec)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(x.bits),
                               (__m512bh)weights);
}

inline __m512i Rounded(Vec x) {
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#endif

// For each of kWidth columns the factor of its numbers in rows one above the other, of
// which a float takes the upper one.
template <typename Factor>
inline Vec ColumnFactors(Vec upper, Vec lower);
template <>
inline Vec ColumnFactors<float>(Vec upper, Vec) { return upper; }
#ifdef CHARJAX_HAS_BFLOAT16
template <>
inline Vec ColumnFactors<Pair>(Vec upper, Vec lower) {
  return (Vec)_mm512_or_si512(Rounded(upper), _mm512_slli_epi32(Rounded(lower), 16));
}
#endif

// How many factors hold a sum's `depth` numbers. Zeros fill up the last, and with tiles
// the last 16.
template <typename Factor>
constexpr int64_t Depth(int64_t depth) {
  constexpr int64_t kNumbersAtOnce = kNumbers<Factor> * kAtOnce<Factor>;
  return (depth + kNumbersAtOnce - 1) / kNumbersAtOnce * kAtOnce<Factor>;
}

// Writes a row of numbers as factors.
inline void ToFactors(const float* from, int64_t count, float* to) {
  std::memcpy(to, from, count * sizeof(float));
}

#ifdef CHARJAX_HAS_BFLOAT16
inline void ToFactors(const float* from, int64_t count, Pair* to) {
  Pair* const end = to + Depth<Pair>(count);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth, to += kWidth / 2) {
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh((__m512)Load(from + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded);
  }
  if (i < count) {
    const __m256i rounded =
        (__m256i)_mm512_cvtneps_pbh((__m512)Load(from + i, count - i));
    const int64_t pairs = (count - i + 1) / 2;
    std::memcpy(to, &rounded, pairs * sizeof(Pair));
    to += pairs;
  }
  if (to < end) std::memset(to, 0, (end - to) * sizeof(Pair));
}
#endif

// Denormal numbers, to which a vanishing gradient falls, slow down every product.
struct FlushDenormals {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(before | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

}  // namespace charjax

#endif  // CHARJAX_VECTOR_H_
