// Causal attention of one key and value head and the queries that share it, in bfloat16 with float32 sums.
// Letters: T positions, E width of a head, C numbers of a position in the joint projection, R queries taken at once.
//
//   s_ij = q_i . k_j / sqrt(E),  p_ij = exp(s_ij - l_i) for j <= i,  l_i = log sum_j exp s_ij,  y_i = sum_j p_ij v_j
//
// and backward, with g the gradient of y:
//
//   dv_j = sum_i p_ij g_i,  ds_ij = p_ij (g_i . v_j - sum_j p_ij g_i . v_j),
//   dq_i = sum_j ds_ij k_j / sqrt(E),  dk_j = sum_i ds_ij q_i / sqrt(E).
//
// Queries and keys are turned first where positions are rotations. Every product is the same tile: sums of pairs, since
// the instruction (vdpbf16ps) multiplies pairs of bfloat16; so operands are packed in pairs along the summed axis.
#pragma once
#include "loops.h"
#include <algorithm>
#include <cmath>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__) && (defined(__clang__) || __GNUC__ >= 10)
#define CL_HAS_PAIRS 1
#include <immintrin.h>
#define CL_PAIRS __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,prefer-vector-width=512")))

namespace cl {

using Pair = uint32_t;  // two neighbours along the summed axis

const int64_t QUERIES = 48;  // R
const int64_t LANES = 16;

struct AttentionShape {
  int64_t time, width, stride, out_stride;  // T, E, C, H E
};

// C[M][16 N] of A [M][depth] pairs and B [depth][.] pairs.
template <int M, int N>
CL_PAIRS void tile(int64_t depth, const Pair* a, int64_t row, int64_t step, const Pair* b, int64_t width, float* c, int64_t ldc,
                   bool add) {
  __m512 sums[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) sums[m][n] = add ? _mm512_loadu_ps(c + m * ldc + n * LANES) : _mm512_setzero_ps();
  for (int64_t k = 0; k < depth; k++) {
    __m512i bs[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) bs[n] = _mm512_loadu_si512(b + k * width + n * LANES);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[m * row + k * step]));
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) sums[m][n] = _mm512_dpbf16_ps(sums[m][n], (__m512bh)x, (__m512bh)bs[n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) _mm512_storeu_ps(c + m * ldc + n * LANES, sums[m][n]);
}

using Tile = void (*)(int64_t, const Pair*, int64_t, int64_t, const Pair*, int64_t, float*, int64_t, bool);
static const Tile TILES[6][4] = {
    {tile<1, 1>, tile<1, 2>, tile<1, 3>, tile<1, 4>}, {tile<2, 1>, tile<2, 2>, tile<2, 3>, tile<2, 4>},
    {tile<3, 1>, tile<3, 2>, tile<3, 3>, tile<3, 4>}, {tile<4, 1>, tile<4, 2>, tile<4, 3>, tile<4, 4>},
    {tile<5, 1>, tile<5, 2>, tile<5, 3>, tile<5, 4>}, {tile<6, 1>, tile<6, 2>, tile<6, 3>, tile<6, 4>},
};

// C[rows][columns] (+)= sum over depth of A B; columns are a multiple of 16. A's pair of row m at k is a[m row + k step].
inline void product(int64_t rows, int64_t columns, int64_t depth, const Pair* a, int64_t row, int64_t step, const Pair* b,
                    int64_t width, float* c, int64_t ldc, bool add) {
  for (int64_t n = 0; n < columns; n += 4 * LANES) {
    const int64_t vectors = std::min<int64_t>(4, (columns - n) / LANES);
    for (int64_t m = 0; m < rows; m += 6)
      TILES[std::min<int64_t>(6, rows - m) - 1][vectors - 1](depth, a + m * row, row, step, b + n, width, c + m * ldc + n, ldc, add);
  }
}

CL_INLINE uint16_t rounded(float x) {
  Bf16 y;
  store(&y, x);
  return y.bits;
}

// Rows [count][E] out of the joint projection, turned by `sign` times their angles where there are any.
CL_PAIRS inline void load_head(const Bf16* from, int64_t stride, const float* cos, const float* sin, float sign, int64_t first,
                               int64_t count, int64_t width, Bf16* to) {
  const int64_t half = width / 2;
  for (int64_t t = 0; t < count; t++) {
    const Bf16* __restrict x = from + (first + t) * stride;
    Bf16* __restrict y = to + t * width;
    if (!cos) {
      std::memcpy(y, x, width * sizeof(Bf16));
      continue;
    }
    const float *__restrict c = cos + (first + t) * half, *__restrict s = sin + (first + t) * half;
    for (int64_t i = 0; i < half; i++) {
      const float a = load(x[i]), b = load(x[half + i]);
      store(y + i, a * c[i] - sign * b * s[i]);
      store(y + half + i, b * c[i] + sign * a * s[i]);
    }
  }
}

// The same the other way: float32 gradients of turned rows, scaled, into those of the joint projection.
CL_PAIRS inline void store_head(const float* from, float scale, const float* cos, const float* sin, int64_t first, int64_t count,
                                int64_t width, Bf16* to, int64_t stride) {
  const int64_t half = width / 2;
  for (int64_t t = 0; t < count; t++) {
    const float* __restrict x = from + t * width;
    Bf16* __restrict y = to + (first + t) * stride;
    if (!cos) {
      for (int64_t i = 0; i < width; i++) store(y + i, x[i] * scale);
      continue;
    }
    const float *__restrict c = cos + (first + t) * half, *__restrict s = sin + (first + t) * half;
    for (int64_t i = 0; i < half; i++) {
      const float a = x[i] * scale, b = x[half + i] * scale;
      store(y + i, a * c[i] + b * s[i]);
      store(y + half + i, b * c[i] - a * s[i]);
    }
  }
}

// Rows [count][E] to pairs along E: [E / 2][width], zeros behind the rows.
CL_PAIRS inline void pack_channels(const Bf16* rows, int64_t count, int64_t channels, Pair* to, int64_t width) {
  std::fill(to, to + channels / 2 * width, 0);
  for (int64_t t = 0; t < count; t++) {
    const Pair* from = reinterpret_cast<const Pair*>(rows + t * channels);
    for (int64_t e = 0; e < channels / 2; e++) to[e * width + t] = from[e];
  }
}

// Rows [count][E] to pairs along the rows: [ceil(count / 2)][E], a zero behind the last.
CL_PAIRS inline void pack_rows(const Bf16* rows, int64_t count, int64_t channels, Pair* to) {
  for (int64_t t = 0; t < count; t += 2) {
    const Bf16 *__restrict a = rows + t * channels, *__restrict b = a + channels;
    Pair* __restrict y = to + t / 2 * channels;
    if (t + 1 < count)
      for (int64_t e = 0; e < channels; e++) y[e] = a[e].bits | static_cast<Pair>(b[e].bits) << 16;
    else
      for (int64_t e = 0; e < channels; e++) y[e] = a[e].bits;
  }
}

CL_INLINE int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

// A row of scores to weights exp(scale (s - max)) in bfloat16, zeros from `seen` to `width`. Gives their sum; `max` is told.
CL_PAIRS inline float softmax_row(const float* __restrict s, int64_t seen, int64_t width, float scale, Bf16* __restrict p, float* max) {
  float greatest = s[0], sum = 0;
#pragma omp simd reduction(max : greatest)
  for (int64_t j = 1; j < seen; j++) greatest = std::max(greatest, s[j]);
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < seen; j++) {
    const float e = exponential(bounded((s[j] - greatest) * scale, 80.0f));
    sum += e;
    store(p + j, e);
  }
  std::fill(p + seen, p + width, Bf16{0});
  *max = greatest;
  return sum;
}

// Scores to weights, and gradients of weights to those of scores, both in place; zeros from `seen` to `width`.
CL_PAIRS inline void gradient_row(float* __restrict s, float* __restrict g, int64_t seen, int64_t width, float scale, float log_sum) {
  float mean = 0;
#pragma omp simd reduction(+ : mean)
  for (int64_t j = 0; j < seen; j++) {
    s[j] = exponential(bounded(s[j] * scale - log_sum, 80.0f));
    mean += s[j] * g[j];
  }
  for (int64_t j = 0; j < seen; j++) g[j] = s[j] * (g[j] - mean);
  std::fill(s + seen, s + width, 0.0f);
  std::fill(g + seen, g + width, 0.0f);
}

// Two rows of float32 to pairs.
CL_PAIRS inline void pair_rows(const float* __restrict a, const float* __restrict b, int64_t width, Pair* __restrict to) {
  for (int64_t j = 0; j < width; j++) to[j] = rounded(a[j]) | static_cast<Pair>(rounded(b[j])) << 16;
}

CL_PAIRS inline void round_row(const float* __restrict from, int64_t width, float scale, Bf16* __restrict to) {
  for (int64_t j = 0; j < width; j++) store(to + j, from[j] * scale);
}

struct Rotary {
  const float *cos, *sin;  // [T, E / 2] or null
};

// One key and value head and the `shared` queries that read it. `query`, `key`, `value` point at the head's first number of
// position 0 in the joint projection, `out` at the first query head's of the output, `log_sums` at its [shared][T].
inline void attend(const AttentionShape& shape, int64_t shared, const Bf16* query, const Bf16* key, const Bf16* value,
                   Rotary rotary, Bf16* out, float* log_sums) {
  const int64_t T = shape.time, E = shape.width, P = padded(T);
  const float scale = 1.0f / std::sqrt(static_cast<float>(E));
  std::vector<Bf16> rows(T * E), weights(QUERIES * P);
  std::vector<Pair> keys(E / 2 * P), values(P / 2 * E, 0);
  std::vector<float> scores(QUERIES * P), sums(QUERIES * E);
  load_head(key, shape.stride, rotary.cos, rotary.sin, 1, 0, T, E, rows.data());
  pack_channels(rows.data(), T, E, keys.data(), P);
  load_head(value, shape.stride, nullptr, nullptr, 1, 0, T, E, rows.data());
  pack_rows(rows.data(), T, E, values.data());
  for (int64_t head = 0; head < shared; head++) {
    for (int64_t first = 0; first < T; first += QUERIES) {
      const int64_t count = std::min(QUERIES, T - first), seen = padded(first + count);
      load_head(query + head * E, shape.stride, rotary.cos, rotary.sin, 1, first, count, E, rows.data());
      product(count, seen, E / 2, reinterpret_cast<const Pair*>(rows.data()), E / 2, 1, keys.data(), P, scores.data(), P, false);
      float scales[QUERIES];
      for (int64_t r = 0; r < count; r++) {
        float max;
        const float sum = softmax_row(scores.data() + r * P, first + r + 1, seen, scale, weights.data() + r * P, &max);
        scales[r] = 1.0f / sum;
        log_sums[head * T + first + r] = max * scale + std::log(sum);
      }
      product(count, E, seen / 2, reinterpret_cast<const Pair*>(weights.data()), P / 2, 1, values.data(), E, sums.data(), E, false);
      for (int64_t r = 0; r < count; r++)
        round_row(sums.data() + r * E, E, scales[r], out + (first + r) * shape.out_stride + head * E);
    }
  }
}

// The gradients of the joint projection from `dout`, that of the output; pointers as in `attend`.
inline void attend_gradient(const AttentionShape& shape, int64_t shared, const Bf16* query, const Bf16* key, const Bf16* value,
                            Rotary rotary, const Bf16* dout, const float* log_sums, Bf16* dquery, Bf16* dkey, Bf16* dvalue) {
  const int64_t T = shape.time, E = shape.width, P = padded(T);
  const float scale = 1.0f / std::sqrt(static_cast<float>(E));
  std::vector<Bf16> rows(T * E), queries(QUERIES * E), grads(QUERIES * E), rounded_ds(QUERIES * P);
  std::vector<Pair> keys(E / 2 * P), keys_by_row(P / 2 * E, 0), values(E / 2 * P);
  std::vector<Pair> queries_by_row(QUERIES / 2 * E), grads_by_row(QUERIES / 2 * E), ps(QUERIES / 2 * P), ds(QUERIES / 2 * P);
  std::vector<float> scores((QUERIES + 1) * P), dweights((QUERIES + 1) * P), dq(QUERIES * E), dk(P * E, 0), dv(P * E, 0);
  load_head(key, shape.stride, rotary.cos, rotary.sin, 1, 0, T, E, rows.data());
  pack_channels(rows.data(), T, E, keys.data(), P);
  pack_rows(rows.data(), T, E, keys_by_row.data());
  load_head(value, shape.stride, nullptr, nullptr, 1, 0, T, E, rows.data());
  pack_channels(rows.data(), T, E, values.data(), P);
  for (int64_t head = 0; head < shared; head++) {
    for (int64_t first = 0; first < T; first += QUERIES) {
      const int64_t count = std::min(QUERIES, T - first), seen = padded(first + count), pairs = (count + 1) / 2;
      load_head(query + head * E, shape.stride, rotary.cos, rotary.sin, 1, first, count, E, queries.data());
      load_head(dout + head * E, shape.out_stride, nullptr, nullptr, 1, first, count, E, grads.data());
      pack_rows(queries.data(), count, E, queries_by_row.data());
      pack_rows(grads.data(), count, E, grads_by_row.data());
      product(count, seen, E / 2, reinterpret_cast<const Pair*>(queries.data()), E / 2, 1, keys.data(), P, scores.data(), P, false);
      product(count, seen, E / 2, reinterpret_cast<const Pair*>(grads.data()), E / 2, 1, values.data(), P, dweights.data(), P, false);
      for (int64_t r = 0; r < count; r++) {
        float *s = scores.data() + r * P, *g = dweights.data() + r * P;
        gradient_row(s, g, first + r + 1, seen, scale, log_sums[head * T + first + r]);
        round_row(g, seen, 1, rounded_ds.data() + r * P);
      }
      if (count % 2) {  // a row of zeros completes the last pair
        std::fill_n(scores.data() + count * P, seen, 0.0f);
        std::fill_n(dweights.data() + count * P, seen, 0.0f);
      }
      for (int64_t r = 0; r < count; r += 2) {
        pair_rows(scores.data() + r * P, scores.data() + (r + 1) * P, seen, ps.data() + r / 2 * P);
        pair_rows(dweights.data() + r * P, dweights.data() + (r + 1) * P, seen, ds.data() + r / 2 * P);
      }
      product(count, E, seen / 2, reinterpret_cast<const Pair*>(rounded_ds.data()), P / 2, 1, keys_by_row.data(), E, dq.data(), E, false);
      store_head(dq.data(), scale, rotary.cos, rotary.sin, first, count, E, dquery + head * E, shape.stride);
      product(std::min(seen, T), E, pairs, ds.data(), 1, P, queries_by_row.data(), E, dk.data(), E, true);
      product(std::min(seen, T), E, pairs, ps.data(), 1, P, grads_by_row.data(), E, dv.data(), E, true);
    }
  }
  store_head(dk.data(), scale, rotary.cos, rotary.sin, 0, T, E, dkey, shape.stride);
  store_head(dv.data(), 1, nullptr, nullptr, 0, T, E, dvalue, shape.stride);
}

inline bool has_pairs() { return simd() == AVX512 && __builtin_cpu_supports("avx512bf16"); }

}  // namespace cl
#endif
