// The kernels as functions that XLA calls: they check the arrays' shapes, and choose the
// cell and the precision.

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string_view>

#include "cells.h"
#include "draw.h"
#include "product.h"
#include "recurrence.h"
#include "xla/ffi/api/ffi.h"

namespace {

using namespace charjax;

using Buffer = ffi::Buffer<ffi::F32>;
using Integers = ffi::Buffer<ffi::S32>;
using Result = ffi::Result<Buffer>;

bool Is(const Buffer& buffer, std::initializer_list<int64_t> shape) {
  const auto is = buffer.dimensions();
  return std::equal(is.begin(), is.end(), shape.begin(), shape.end());
}

ffi::Error WrongShapes() {
  return ffi::Error::InvalidArgument("arrays of a kernel do not go together");
}

// Calls run(a cell, a factor) of these names.
template <typename Run>
ffi::Error WithTypes(std::string_view cell, bool bfloat16, const Run& run) {
  const auto with_cell = [&](auto factor) {
    if (cell == "lstm") return run(LSTM(), factor);
    if (cell == "gru") return run(GRU(), factor);
    if (cell == "rnn") return run(RNN(), factor);
    return ffi::Error::InvalidArgument("there is no kernel for this cell");
  };
#ifdef CHARJAX_HAS_BFLOAT16
  if (bfloat16) return with_cell(Pair());
#endif
  if (bfloat16) return ffi::Error::InvalidArgument("this CPU has no bfloat16 products");
  return with_cell(float());
}

// A buffer that the caller provides as room for packed weights.
template <typename Factor>
Factor* Room(Result scratch, int64_t count) {
  if (int64_t(scratch->element_count()) < count) return nullptr;
  return reinterpret_cast<Factor*>(scratch->typed_data());
}

ffi::Error RunForward(ffi::ThreadPool pool, Buffer z_TxBxGH, Buffer u_HxGH,
                      Buffer bias_H, Buffer c_BxH, Buffer h_BxH, Result saved_TxBxSH,
                      Result c_TxBxH, Result h_TxBxH, Result scratch,
                      std::string_view cell, bool bfloat16) {
  const auto shape = h_TxBxH->dimensions();
  if (shape.size() != 3) return WrongShapes();
  const int64_t T = shape[0], B = shape[1], H = shape[2];
  return WithTypes(cell, bfloat16, [&](auto a_cell, auto a_factor) {
    using Cell = decltype(a_cell);
    using Factor = decltype(a_factor);
    constexpr int64_t G = Cell::kGates, kMemory = Cell::kHasMemory;
    Factor* room = Room<Factor>(scratch, ForwardScratch<Cell, Factor>(B, H));
    if (!Is(z_TxBxGH, {T, B, G * H}) || !Is(u_HxGH, {H, G * H}) ||
        !Is(bias_H, {Cell::kHasBias * H}) || !Is(c_BxH, {B, kMemory * H}) ||
        !Is(h_BxH, {B, H}) || !Is(*saved_TxBxSH, {T, B, Cell::kSaved * H}) ||
        !Is(*c_TxBxH, {T, B, kMemory * H}) || !room) {
      return WrongShapes();
    }
    const ForwardLayer<Cell> layer = {
        {T, B, H, u_HxGH.typed_data(), c_BxH.typed_data(), h_BxH.typed_data()},
        z_TxBxGH.typed_data(),
        bias_H.typed_data(),
        saved_TxBxSH->typed_data(),
        c_TxBxH->typed_data(),
        h_TxBxH->typed_data()};
    if constexpr (std::is_same_v<Factor, float>) {
      if (B == 1) {
        ForwardOne(layer, room);
        return ffi::Error::Success();
      }
    }
    Forward(pool, layer, room);
    return ffi::Error::Success();
  });
}

ffi::Error RunBackward(ffi::ThreadPool pool, Buffer saved_TxBxSH, Buffer u_HxGH,
                       Buffer c_BxH, Buffer c_TxBxH, Buffer h_BxH, Buffer h_TxBxH,
                       Buffer dh_TxBxH, Buffer dc_BxH, Buffer dh_BxH, Result dz_TxBxGH,
                       Result dy_TxBxGH, Result dc0_BxH, Result dh0_BxH,
                       Result scratch, std::string_view cell, bool bfloat16) {
  const auto shape = h_TxBxH.dimensions();
  if (shape.size() != 3) return WrongShapes();
  const int64_t T = shape[0], B = shape[1], H = shape[2];
  return WithTypes(cell, bfloat16, [&](auto a_cell, auto a_factor) {
    using Cell = decltype(a_cell);
    using Factor = decltype(a_factor);
    constexpr int64_t G = Cell::kGates, kMemory = Cell::kHasMemory;
    Factor* room = Room<Factor>(scratch, BackwardScratch<Cell, Factor>(B, H));
    if (!Is(saved_TxBxSH, {T, B, Cell::kSaved * H}) || !Is(u_HxGH, {H, G * H}) ||
        !Is(c_BxH, {B, kMemory * H}) || !Is(c_TxBxH, {T, B, kMemory * H}) ||
        !Is(h_BxH, {B, H}) || !Is(dh_TxBxH, {T, B, H}) ||
        !Is(dc_BxH, {B, kMemory * H}) || !Is(dh_BxH, {B, H}) ||
        !Is(*dz_TxBxGH, {T, B, G * H}) || !Is(*dc0_BxH, {B, kMemory * H}) ||
        !Is(*dy_TxBxGH, {T, B, Cell::kSameGradients ? 0 : G * H}) ||
        !Is(*dh0_BxH, {B, H}) || !room) {
      return WrongShapes();
    }
    const auto begin_with = [](Result to, Buffer from) {
      if (to->typed_data() != from.typed_data() && from.element_count()) {
        std::memcpy(to->typed_data(), from.typed_data(), from.size_bytes());
      }
    };
    begin_with(dc0_BxH, dc_BxH);
    begin_with(dh0_BxH, dh_BxH);
    const BackwardLayer<Cell> layer = {
        {T, B, H, u_HxGH.typed_data(), c_BxH.typed_data(), h_BxH.typed_data()},
        saved_TxBxSH.typed_data(),
        c_TxBxH.typed_data(),
        h_TxBxH.typed_data(),
        dh_TxBxH.typed_data(),
        dz_TxBxGH->typed_data(),
        (Cell::kSameGradients ? dz_TxBxGH : dy_TxBxGH)->typed_data(),
        dc0_BxH->typed_data(),
        dh0_BxH->typed_data()};
    if constexpr (std::is_same_v<Factor, float>) {
      if (B == 1) {
        BackwardOne(layer, room);
        return ffi::Error::Success();
      }
    }
    Backward(pool, layer, room);
    return ffi::Error::Success();
  });
}

// Packs a matrix of weights for drawing. A read-out has one gate, as an RNN.
ffi::Error RunPack(ffi::ThreadPool pool, Buffer w_KxGN, Result packed,
                   std::string_view cell, bool bfloat16) {
  const auto shape = w_KxGN.dimensions();
  if (shape.size() != 2) return WrongShapes();
  return WithTypes(cell, bfloat16, [&](auto a_cell, auto a_factor) {
    using Factor = decltype(a_factor);
    using Weights = DrawPanels<Factor, decltype(a_cell)::kGates>;
    const int64_t units = shape[1] / decltype(a_cell)::kGates;
    Factor* room = Room<Factor>(packed, Weights::Size(shape[0], units));
    if (!room) return WrongShapes();
    Weights::Pack(pool, w_KxGN.typed_data(), shape[0], units, room);
    return ffi::Error::Success();
  });
}

// The ids after the first `count` are 0.
ffi::Error RunDraw(ffi::ThreadPool pool, Integers count, Buffer temperature, Buffer cut_3,
                   Buffer noise_PxBxV, Buffer logits_BxV, Buffer state_LxSxBxH,
                   Buffer z_VxGH, Buffer packed_MxS, Buffer bias_LxGH,
                   Buffer reset_bias_LxH, Buffer packed_readout, Buffer bias_V,
                   ffi::Result<Integers> ids_PxB, Result new_logits_BxV,
                   Result new_state_LxSxBxH, std::string_view cell, bool bfloat16) {
  const auto shape = state_LxSxBxH.dimensions();
  if (shape.size() != 4 || noise_PxBxV.dimensions().size() != 3) return WrongShapes();
  const int64_t L = shape[0], B = shape[2], H = shape[3], V = bias_V.element_count();
  const int64_t P = noise_PxBxV.dimensions()[0];
  return WithTypes(cell, bfloat16, [&](auto a_cell, auto a_factor) {
    using Cell = decltype(a_cell);
    using Factor = decltype(a_factor);
    using Model = Drawing<Cell, Factor>;
    const int64_t gates = Cell::kGates * H, size = Model::Weights::Size(H, H);
    if (shape[1] != Model::kStates || !Is(noise_PxBxV, {P, B, V}) ||
        !Is(logits_BxV, {B, V}) || !Is(z_VxGH, {V, gates}) ||
        !Is(bias_LxGH, {L, gates}) || !Is(reset_bias_LxH, {L, Cell::kHasBias * H}) ||
        packed_MxS.dimensions().size() != 2 ||
        packed_MxS.dimensions()[0] != 2 * L - 1 || packed_MxS.dimensions()[1] < size ||
        int64_t(packed_readout.element_count()) < Model::Readout::Size(H, V) ||
        cut_3.element_count() != 3 ||
        int64_t(ids_PxB->element_count()) != P * B || count.typed_data()[0] > P) {
      return WrongShapes();
    }
    std::memset(ids_PxB->typed_data(), 0, ids_PxB->size_bytes());
    std::memcpy(new_logits_BxV->typed_data(), logits_BxV.typed_data(),
                logits_BxV.size_bytes());
    std::memcpy(new_state_LxSxBxH->typed_data(), state_LxSxBxH.typed_data(),
                state_LxSxBxH.size_bytes());
    // At least one, and the largest float may be more than an integer holds.
    const int64_t top_k = std::clamp<float>(cut_3.typed_data()[0], 1, 1 << 30);
    const Model model = {L,
                         B,
                         H,
                         V,
                         packed_MxS.dimensions()[1],
                         z_VxGH.typed_data(),
                         bias_LxGH.typed_data(),
                         reset_bias_LxH.typed_data(),
                         bias_V.typed_data(),
                         reinterpret_cast<const Factor*>(packed_MxS.typed_data()),
                         reinterpret_cast<const Factor*>(packed_readout.typed_data()),
                         temperature.typed_data()[0],
                         {top_k, cut_3.typed_data()[1], cut_3.typed_data()[2]},
                         noise_PxBxV.typed_data(),
                         new_logits_BxV->typed_data(),
                         new_state_LxSxBxH->typed_data(),
                         ids_PxB->typed_data()};
    Draw(pool, model, count.typed_data()[0]);
    return ffi::Error::Success();
  });
}

#ifdef CHARJAX_HAS_BFLOAT16
ffi::Error RunProduct(ffi::ThreadPool pool, Buffer a, Buffer b, Result c_MxN,
                      Result scratch, bool a_transposed, bool b_transposed) {
  const auto a_shape = a.dimensions(), shape = c_MxN->dimensions();
  if (a_shape.size() != 2 || shape.size() != 2) return WrongShapes();
  const int64_t M = shape[0], N = shape[1], K = a_shape[a_transposed ? 0 : 1];
  const int64_t size = ColumnPanels<Pair>::Size(K, N);
  const bool is_a = a_transposed ? Is(a, {K, M}) : Is(a, {M, K});
  const bool is_b = b_transposed ? Is(b, {N, K}) : Is(b, {K, N});
  Pair* room = Room<Pair>(scratch, size);
  if (!is_a || !is_b || !room) return WrongShapes();
  Product(pool, {a.typed_data(), a_transposed}, {b.typed_data(), b_transposed},
          c_MxN->typed_data(), M, N, K, room);
  return ffi::Error::Success();
}
#endif

}  // namespace

#define KERNEL(name, run, args, rets)                                         \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, run,                                    \
                                ffi::Ffi::Bind().Ctx<ffi::ThreadPool>() args rets \
                                    .Attr<std::string_view>("cell")           \
                                    .Attr<bool>("bfloat16"))
#define ARG .Arg<Buffer>()
#define RET .Ret<Buffer>()

KERNEL(CharjaxForward, RunForward, ARG ARG ARG ARG ARG, RET RET RET RET);
KERNEL(CharjaxBackward, RunBackward, ARG ARG ARG ARG ARG ARG ARG ARG ARG,
       RET RET RET RET RET);
KERNEL(CharjaxPack, RunPack, ARG, RET);
KERNEL(CharjaxDraw, RunDraw, .Arg<Integers>() ARG ARG ARG ARG ARG ARG ARG ARG ARG ARG ARG,
       .Ret<Integers>() RET RET);

// Absent where the CPU has no such products, which is how Python knows.
#ifdef CHARJAX_HAS_BFLOAT16
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    CharjaxProduct, RunProduct,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>() ARG ARG RET RET.Attr<bool>("a_transposed")
        .Attr<bool>("b_transposed"));
#endif
