// One layer of a decoder for one token a row, in four launches beside those of decode_attention.cu: products of a matrix and a
// few vectors, with what stands before and behind them done on the way.
// Letters: R rows (8 at most), D width, H heads, K key and value heads, E width of a head, F feed-forward, N room of a cache.
// Matrices are [out, in] and tensors of T; sums are float32.
//
// A block makes its inputs, normed where there is a norm, once in shared memory as float32, [R, in]; a warp then takes two rows
// of the weights at a time, of which a lane reads 16 bytes at once.

struct alignas(16) Pack {
  T at[16 / sizeof(T)];
};
const int PACK = 16 / sizeof(T);

// Inputs [rows, width] into shared memory, up to `padded` rows of them zero. With `ws` they are normed first: a layer norm
// where there are biases, else a root mean square norm.
CL_DEVICE void enter(const T* xs, const T* ws, const T* bs, float epsilon, float* to, i64 rows, int padded, i64 width) {
  __shared__ float scratch[32];
  for (int row = 0; row < padded; row++) {
    float* of_row = to + row * width;
    float sum = 0.0f;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) {
      of_row[i] = row < rows ? load(xs[row * width + i]) : 0.0f;
      sum += of_row[i];
    }
    if (ws == nullptr || row >= rows) continue;
    const float mean = bs ? block_sum(sum, scratch) / static_cast<float>(width) : 0.0f;
    float squares = 0.0f;
    for (i64 i = threadIdx.x; i < width; i += blockDim.x) squares += (of_row[i] - mean) * (of_row[i] - mean);
    const float scale = rsqrtf(block_sum(squares, scratch) / static_cast<float>(width) + epsilon);
    for (i64 i = threadIdx.x; i < width; i += blockDim.x)
      of_row[i] = (of_row[i] - mean) * scale * load(ws[i]) + (bs ? load(bs[i]) : 0.0f);
  }
  __syncthreads();
}

// Products of two rows of weights and ROWS inputs, for all lanes of a warp.
template <int ROWS>
CL_DEVICE void products(const T* first, const T* second, const float* xs, i64 width, i64 is_wide, float (&ys)[2][8]) {
  const int lane = threadIdx.x % 32;
  float sums[2][ROWS] = {};
  if (is_wide) {
    for (i64 at = lane * PACK; at < width; at += 32 * PACK) {
      const Pack a = *reinterpret_cast<const Pack*>(first + at), b = *reinterpret_cast<const Pack*>(second + at);
#pragma unroll
      for (int row = 0; row < ROWS; row++)
#pragma unroll
        for (int i = 0; i < PACK; i += 4) {
          const Four<float> x = *reinterpret_cast<const Four<float>*>(xs + row * width + at + i);
#pragma unroll
          for (int j = 0; j < 4; j++) {
            sums[0][row] += load(a.at[i + j]) * x.of[j];
            sums[1][row] += load(b.at[i + j]) * x.of[j];
          }
        }
    }
  } else {
    for (i64 at = lane; at < width; at += 32)
#pragma unroll
      for (int row = 0; row < ROWS; row++) {
        sums[0][row] += load(first[at]) * xs[row * width + at];
        sums[1][row] += load(second[at]) * xs[row * width + at];
      }
  }
#pragma unroll
  for (int row = 0; row < ROWS; row++) {
    ys[0][row] = warp_sum(sums[0][row]);
    ys[1][row] = warp_sum(sums[1][row]);
  }
}

CL_DEVICE int padded(i64 rows) { return rows <= 1 ? 1 : rows <= 2 ? 2 : rows <= 4 ? 4 : 8; }

CL_DEVICE void multiply(const T* first, const T* second, const float* xs, i64 rows, i64 width, i64 is_wide, float (&ys)[2][8]) {
  switch (padded(rows)) {
    case 1: return products<1>(first, second, xs, width, is_wide, ys);
    case 2: return products<2>(first, second, xs, width, is_wide, ys);
    case 4: return products<4>(first, second, xs, width, is_wide, ys);
    default: return products<8>(first, second, xs, width, is_wide, ys);
  }
}

// Queries, keys and values of norm(x): queries [R, H, E], keys and values where their tokens stand in the caches [C, K, N, E];
// queries and keys turned where there are cosines and sines [R, E / 2], float32. A warp makes numbers i and i + E / 2 of a head.
CL_KERNEL project(const T* xs, const T* norm_ws, const T* norm_bs, float epsilon, const T* q_ws, const T* k_ws, const T* v_ws,
                  const T* q_bs, const T* k_bs, const T* v_bs, const float* cosines, const float* sines, T* qs, T* keys, T* values,
                  const i64* cache_row, const i64* positions, i64 rows, i64 width, i64 heads, i64 kv_heads, i64 head_width,
                  i64 cache_rows, i64 room, i64 is_wide) {
  CL_DYNAMIC_SHARED(Four<float>, whole);
  float* entered = whole->of;
  enter(xs, norm_ws, norm_bs, epsilon, entered, rows, padded(rows), width);
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const i64 half = (head_width + 1) / 2, items = (heads + 2 * kv_heads) * half;
  for (i64 item = blockIdx.x * static_cast<i64>(warps) + threadIdx.x / 32; item < items; item += gridDim.x * static_cast<i64>(warps)) {
    const i64 head = item / half, i = item % half;
    const int kind = head < heads ? 0 : head < heads + kv_heads ? 1 : 2;
    const i64 own = kind == 0 ? head : kind == 1 ? head - heads : head - heads - kv_heads;
    const T* ws = kind == 0 ? q_ws : kind == 1 ? k_ws : v_ws;
    const T* bs = kind == 0 ? q_bs : kind == 1 ? k_bs : v_bs;
    const bool is_pair = i + half < head_width;
    const i64 first = own * head_width + i, second = is_pair ? first + half : first;
    float ys[2][8];
    multiply(ws + first * width, ws + second * width, entered, rows, width, is_wide, ys);
#pragma unroll
    for (int row = 0; row < 8; row++) {
      if (row >= rows || lane != row) continue;  // a lane a row
      float a = ys[0][row] + (bs ? load(bs[first]) : 0.0f), b = ys[1][row] + (bs ? load(bs[second]) : 0.0f);
      if (cosines && kind < 2) {
        const float c = cosines[row * half + i], s = sines[row * half + i], turned = a * c - b * s;
        b = b * c + a * s;
        a = turned;
      }
      T* to = qs + (row * heads + own) * head_width;
      if (kind > 0) {
        const i64 of = cache_row ? cache_row[row] : row, place = positions[row];
        if (of < 0 || of >= cache_rows || place < 0 || place >= room) continue;
        to = (kind == 1 ? keys : values) + ((of * kv_heads + own) * room + place) * head_width;
      }
      store(to + i, a);
      if (is_pair) store(to + i + half, b);
    }
  }
}
CL_EXPORT(project)

// residual + W x + b: x [R, in], residual and y [R, out].
CL_KERNEL add_product(const T* xs, const T* ws, const T* bs, const T* residual, T* ys, i64 rows, i64 width, i64 outs, i64 is_wide) {
  CL_DYNAMIC_SHARED(Four<float>, whole);
  float* entered = whole->of;
  enter(xs, nullptr, nullptr, 0.0f, entered, rows, padded(rows), width);
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (i64 item = blockIdx.x * static_cast<i64>(warps) + threadIdx.x / 32; 2 * item < outs; item += gridDim.x * static_cast<i64>(warps)) {
    const i64 first = 2 * item, second = first + 1 < outs ? first + 1 : first;
    float made[2][8];
    multiply(ws + first * width, ws + second * width, entered, rows, width, is_wide, made);
#pragma unroll
    for (int row = 0; row < 8; row++) {
      if (row >= rows || lane != row) continue;
      for (int i = 0; i <= second - first; i++) {
        const i64 at = row * outs + first + i;
        store(ys + at, load(residual[at]) + made[i][row] + (bs ? load(bs[first + i]) : 0.0f));
      }
    }
  }
}
CL_EXPORT(add_product)

// act(up norm(x)), [R, F]: silu(gate norm(x)) times it where there is a gate, else gelu, by tanh where `by_tanh`.
CL_KERNEL activate(const T* xs, const T* norm_ws, const T* norm_bs, float epsilon, const T* gate_ws, const T* gate_bs, const T* up_ws,
                   const T* up_bs, T* ys, i64 rows, i64 width, i64 outs, i64 by_tanh, i64 is_wide) {
  CL_DYNAMIC_SHARED(Four<float>, whole);
  float* entered = whole->of;
  enter(xs, norm_ws, norm_bs, epsilon, entered, rows, padded(rows), width);
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32, step = gate_ws ? 1 : 2;
  for (i64 item = blockIdx.x * static_cast<i64>(warps) + threadIdx.x / 32; step * item < outs; item += gridDim.x * static_cast<i64>(warps)) {
    const i64 first = step * item, second = !gate_ws && first + 1 < outs ? first + 1 : first;
    float made[2][8];
    multiply(up_ws + first * width, (gate_ws ? gate_ws : up_ws) + second * width, entered, rows, width, is_wide, made);
#pragma unroll
    for (int row = 0; row < 8; row++) {
      if (row >= rows || lane != row) continue;
      if (gate_ws) {
        const float up = made[0][row] + (up_bs ? load(up_bs[first]) : 0.0f), gate = made[1][row] + (gate_bs ? load(gate_bs[first]) : 0.0f);
        store(ys + row * outs + first, gate * sigmoid(gate) * up);
        continue;
      }
      for (int i = 0; i <= second - first; i++) {
        const float x = made[i][row] + (up_bs ? load(up_bs[first + i]) : 0.0f);
        const float inner = by_tanh ? tanhf(0.7978845608f * (x + 0.044715f * x * x * x)) : erff(0.7071067812f * x);
        store(ys + row * outs + first + i, 0.5f * x * (1.0f + inner));
      }
    }
  }
}
CL_EXPORT(activate)
