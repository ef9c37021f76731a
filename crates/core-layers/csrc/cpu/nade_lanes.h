// The loops of nade.cpp for one instruction set. Included once for each, inside a namespace of its own, with
// LANES (floats in a register, a divisor of 16) and TARGET (the attribute that names the instructions) defined.
//
// I images share each load of W and V. LEVELS is L where it is known at compile time, else 0.

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
constexpr int REGISTERS = SLICE / LANES;

#define INLINE TARGET static inline __attribute__((always_inline))

INLINE Lanes load(const float* from) {
  Lanes xs;
  memcpy(&xs, from, sizeof xs);
  return xs;
}

INLINE void store(float* to, Lanes xs) { memcpy(to, &xs, sizeof xs); }

INLINE Lanes splat(float x) { return Lanes{} + x; }

// 1 / (1 + e^-a) to 2e-7; NaN if a is. With t = -a log2(e), e^-a = 2^n 2^f, f in -1/2..1/2 the minimax polynomial's.
INLINE Lanes sigmoid(Lanes a) {
  // Adding 1.5 * 2^23 rounds to an integer; 127, the bias of an exponent, makes the low bits those of 2^n.
  const float round = 12582912.f + 127.f;
  const Lanes least = splat(-126.f), greatest = splat(126.f);
  Lanes t = a * -1.44269504f;
  t = greatest < t ? greatest : t;
  t = least > t ? least : t;
  Lanes shifted = t + round;
  Lanes f = t - (shifted - round);
  Lanes p = splat(1.32764755e-3f);
  p = p * f + 9.67554416e-3f;
  p = p * f + 5.55071329e-2f;
  p = p * f + 2.40221197e-1f;
  p = p * f + 6.93146967e-1f;
  p = p * f + 1.f;
  Bits exponent = (Bits)shifted << 23;
  Lanes scale;
  memcpy(&scale, &exponent, sizeof scale);
  return 1.f / (p * scale + 1.f);
}

// Logits of images b..b+I from one group of slices, added to those of the groups before it.
template <int I, int LEVELS>
INLINE void forward_block(const Nade& n, int64_t group, int64_t b) {
  constexpr int G = GROUP;
  const int64_t N = n.pixels, L = LEVELS ? LEVELS : n.levels;
  const float* ws[G];
  const float* vs[G];
  Lanes a[I][G][REGISTERS];
  for (int g = 0; g < G; g++) {
    const int64_t s = group * G + g;
    ws[g] = n.ws + s * N * SLICE;
    vs[g] = n.vs + s * N * L * SLICE;
    for (int i = 0; i < I; i++)
      for (int q = 0; q < REGISTERS; q++) a[i][g][q] = load(n.bs + s * SLICE + q * LANES);
  }
  // Products wait in `rows` for their sum over lanes until a tile of them is full.
  alignas(64) float rows[I][TILE][SLICE];
  int64_t filled = 0, written = 0;
  for (int64_t k = 0; k < N; k++) {
    Lanes h[I][G][REGISTERS];
    for (int g = 0; g < G; g++)
      for (int q = 0; q < REGISTERS; q++) {
        const Lanes w = load(ws[g] + k * SLICE + q * LANES);
        for (int i = 0; i < I; i++) {
          h[i][g][q] = sigmoid(a[i][g][q]);
          a[i][g][q] += w * n.xs[(b + i) * N + k];
        }
      }
    for (int64_t l = 0; l < L; l++) {
      for (int q = 0; q < REGISTERS; q++) {
        Lanes sums[I];
        for (int g = 0; g < G; g++) {
          const Lanes v = load(vs[g] + (k * L + l) * SLICE + q * LANES);
          for (int i = 0; i < I; i++) sums[i] = g ? sums[i] + h[i][g][q] * v : h[i][g][q] * v;
        }
        for (int i = 0; i < I; i++) store(&rows[i][filled][q * LANES], sums[i]);
      }
      if (++filled == TILE) {
        for (int i = 0; i < I; i++) add_tile(n.logits + (b + i) * N * L + written, rows[i]);
        written += TILE;
        filled = 0;
      }
    }
  }
  for (int i = 0; i < I; i++) add_rows(n.logits + (b + i) * N * L + written, rows[i], filled);
}

// Gradients of one slice from images b..b+I, added to those of the images before them. D is the gradient of a_{k+1}.
template <int I, int LEVELS>
INLINE void backward_block(const Nade& n, const NadeGrads& grads, int64_t s, int64_t b, float* hs) {
  const int64_t N = n.pixels, L = LEVELS ? LEVELS : n.levels;
  const float* ws = n.ws + s * N * SLICE;
  const float* vs = n.vs + s * N * L * SLICE;
  float* dws = grads.ws + s * N * SLICE;
  float* dvs = grads.vs + s * N * L * SLICE;
  Lanes a[I][REGISTERS], D[I][REGISTERS] = {};
  for (int i = 0; i < I; i++)
    for (int q = 0; q < REGISTERS; q++) a[i][q] = load(n.bs + s * SLICE + q * LANES);
  for (int64_t k = 0; k < N; k++)
    for (int q = 0; q < REGISTERS; q++) {
      const Lanes w = load(ws + k * SLICE + q * LANES);
      for (int i = 0; i < I; i++) {
        store(hs + (k * I + i) * SLICE + q * LANES, sigmoid(a[i][q]));
        a[i][q] += w * n.xs[(b + i) * N + k];
      }
    }
  for (int64_t k = N - 1; k >= 0; k--) {
    if (grads.xs) {
      for (int i = 0; i < I; i++) {
        float products[SLICE], sum = 0;
        for (int q = 0; q < REGISTERS; q++)
          store(products + q * LANES, load(ws + k * SLICE + q * LANES) * D[i][q]);
        for (float product : products) sum += product;
        grads.xs[(s * n.images + b + i) * N + k] = sum;
      }
    }
    for (int q = 0; q < REGISTERS; q++) {
      Lanes h[I], dh[I] = {};
      Lanes dw = load(dws + k * SLICE + q * LANES);
      for (int i = 0; i < I; i++) {
        dw += D[i][q] * n.xs[(b + i) * N + k];
        h[i] = load(hs + (k * I + i) * SLICE + q * LANES);
      }
      store(dws + k * SLICE + q * LANES, dw);
      for (int64_t l = 0; l < L; l++) {
        const int64_t at = (k * L + l) * SLICE + q * LANES;
        const Lanes v = load(vs + at);
        Lanes dv = load(dvs + at);
        for (int i = 0; i < I; i++) {
          const float g = grads.logits[((b + i) * N + k) * L + l];
          dv += h[i] * g;
          dh[i] += v * g;
        }
        store(dvs + at, dv);
      }
      for (int i = 0; i < I; i++) D[i][q] += dh[i] * (h[i] - h[i] * h[i]);
    }
  }
  float* dbs = grads.bs + s * SLICE;
  for (int q = 0; q < REGISTERS; q++)
    for (int i = 0; i < I; i++) store(dbs + q * LANES, load(dbs + q * LANES) + D[i][q]);
}

template <int LEVELS>
TARGET void forward_images(const Nade& n, int64_t from, int64_t to) {
  const int64_t groups = n.slices / GROUP;
  for (int64_t group = 0; group < groups; group++) {
    int64_t b = from;
    for (; b + FORWARD_IMAGES <= to; b += FORWARD_IMAGES) forward_block<FORWARD_IMAGES, LEVELS>(n, group, b);
    for (; b < to; b++) forward_block<1, LEVELS>(n, group, b);
  }
}

template <int LEVELS>
TARGET void backward_slice(const Nade& n, const NadeGrads& grads, int64_t s, float* hs) {
  int64_t b = 0;
  for (; b + BACKWARD_IMAGES <= n.images; b += BACKWARD_IMAGES)
    backward_block<BACKWARD_IMAGES, LEVELS>(n, grads, s, b, hs);
  for (; b < n.images; b++) backward_block<1, LEVELS>(n, grads, s, b, hs);
}

// Two levels are what NADE is trained on; known, their loops unroll.
TARGET void forward(const Nade& n, int64_t from, int64_t to) {
  n.levels == 2 ? forward_images<2>(n, from, to) : forward_images<0>(n, from, to);
}

TARGET void backward(const Nade& n, const NadeGrads& grads, int64_t s, float* hs) {
  n.levels == 2 ? backward_slice<2>(n, grads, s, hs) : backward_slice<0>(n, grads, s, hs);
}

#undef INLINE
#undef LANES
#undef TARGET
