// Products of a matrix of quantised blocks and up to eight vectors: y = W x, weights as they were delivered, inputs and sums not
// quantised. A row of W is `columns` whole numbers of 8 or 4 bits, in blocks of 32 or 64 with a scale d, of bf16 or f16 bits:
// d q of signed bytes; d (q - 8) of nibbles, or d q + m where blocks have a least value m. Of a block's nibbles byte i holds
// value i in its low half and value block / 2 + i in its high one.
// Letters: R vectors. Shapes: x [R, columns] and y [R, rows] of T, whole numbers [rows, columns bits / 8] bytes, scales
// [rows, columns / block], least values likewise or none.
//
// A block keeps x in shared memory as float32. A warp has a row, a lane 16 bytes of it at once: they lie in one block.

struct alignas(16) Sixteen {
  u32 at[4];
};

CL_DEVICE float scale_of(u16 bits, i64 is_half) {
  if (!is_half) return __uint_as_float(static_cast<u32>(bits) << 16);
  F16 half;
  half.bits = bits;
  return load(half);
}

// Adds sum q x of four whole numbers and as many inputs, and of the inputs alone.
CL_DEVICE void add_four(const float (&q)[4], const float* xs, float& sum, float& alone) {
  const Four<float> x = *reinterpret_cast<const Four<float>*>(xs);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    sum += q[i] * x.of[i];
    alone += x.of[i];
  }
}

template <int ROWS>
CL_DEVICE void row_product(const unsigned char* qs, const u16* scales, const u16* least, const float* xs, i64 columns, i64 block,
                           i64 bits, i64 is_half, float (&ys)[8]) {
  const int lane = threadIdx.x % 32;
  float sums[ROWS] = {};
  const i64 bytes = columns * bits / 8, of_block = block * bits / 8;
  for (i64 at = lane * 16; at < bytes; at += 32 * 16) {
    const Sixteen q = *reinterpret_cast<const Sixteen*>(qs + at);
    const i64 which = at / of_block;
    const float d = scale_of(scales[which], is_half), m = least ? scale_of(least[which], is_half) : 0.0f;
    float dots[ROWS] = {}, alone[ROWS] = {};
    if (bits == 8) {
#pragma unroll
      for (int word = 0; word < 4; word++) {
        float values[4];
#pragma unroll
        for (int i = 0; i < 4; i++) values[i] = static_cast<float>(static_cast<signed char>(q.at[word] >> 8 * i));
#pragma unroll
        for (int row = 0; row < ROWS; row++) add_four(values, xs + row * columns + at + 4 * word, dots[row], alone[row]);
      }
    } else {
      const float middle = least ? 0.0f : 8.0f;
      const i64 low = which * block + at % of_block;  // value of the first low half
#pragma unroll
      for (int word = 0; word < 4; word++) {
        float lows[4], highs[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
          lows[i] = static_cast<float>(q.at[word] >> 8 * i & 15u) - middle;
          highs[i] = static_cast<float>(q.at[word] >> (8 * i + 4) & 15u) - middle;
        }
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
          const float* from = xs + row * columns + low + 4 * word;
          add_four(lows, from, dots[row], alone[row]);
          add_four(highs, from + block / 2, dots[row], alone[row]);
        }
      }
    }
#pragma unroll
    for (int row = 0; row < ROWS; row++) sums[row] += least ? d * dots[row] + m * alone[row] : d * dots[row];
  }
#pragma unroll
  for (int row = 0; row < ROWS; row++) ys[row] = warp_sum(sums[row]);
}

CL_KERNEL matvec(const T* xs, const unsigned char* qs, const u16* scales, const u16* least, T* ys, i64 vectors, i64 rows, i64 columns,
                 i64 block, i64 bits, i64 is_half) {
  CL_DYNAMIC_SHARED(Four<float>, whole);
  float* entered = whole->of;
  const i64 padded = vectors <= 1 ? 1 : vectors <= 2 ? 2 : vectors <= 4 ? 4 : 8;
  for (i64 i = threadIdx.x; i < padded * columns; i += blockDim.x) entered[i] = i < vectors * columns ? load(xs[i]) : 0.0f;
  __syncthreads();
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const i64 blocks = columns / block, bytes = columns * bits / 8;
  for (i64 row = blockIdx.x * static_cast<i64>(warps) + threadIdx.x / 32; row < rows; row += gridDim.x * static_cast<i64>(warps)) {
    const unsigned char* of_row = qs + row * bytes;
    const u16 *d = scales + row * blocks, *m = least ? least + row * blocks : nullptr;
    float made[8];
    switch (padded) {
      case 1: row_product<1>(of_row, d, m, entered, columns, block, bits, is_half, made); break;
      case 2: row_product<2>(of_row, d, m, entered, columns, block, bits, is_half, made); break;
      case 4: row_product<4>(of_row, d, m, entered, columns, block, bits, is_half, made); break;
      default: row_product<8>(of_row, d, m, entered, columns, block, bits, is_half, made);
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (i < vectors && lane == i) store(ys + i * rows + row, made[i]);
  }
}
CL_EXPORT(matvec)
