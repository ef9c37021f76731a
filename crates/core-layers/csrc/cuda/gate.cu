// The gated activation unit (van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, equation 2):
// y = tanh(a) sigmoid(b) of the halves of x + condition, and its gradient.
// Letters: N examples, C channels of the output, S places (pixels or samples).
// Shapes: x [N, 2 C, S] of T, condition [N, 2 C] of T or none, y [N, C, S]. A thread has one number of y.

CL_KERNEL gate(const T* xs, const T* condition, T* ys, i64 channels, i64 places, i64 count) {
  for (i64 i = blockIdx.x * static_cast<i64>(blockDim.x) + threadIdx.x; i < count; i += static_cast<i64>(gridDim.x) * blockDim.x) {
    const i64 example = i / (channels * places), channel = i / places % channels;
    const i64 at = i + example * channels * places, added = 2 * example * channels + channel;
    float a = load(xs[at]), b = load(xs[at + channels * places]);
    if (condition) {
      a += load(condition[added]);
      b += load(condition[added + channels]);
    }
    store(ys + i, tanhf(a) * sigmoid(b));
  }
}
CL_EXPORT(gate)

// dx of dy, and dcondition, its sum over places, added up before it is rounded. A block has the places of one channel of one
// example, and goes on to others.
CL_KERNEL gate_gradient(const T* xs, const T* condition, const T* dys, T* dxs, T* dcondition, i64 channels, i64 places, i64 rows) {
  __shared__ float scratch[32];
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const i64 first = row / channels * 2 * channels + row % channels;  // of a; b stands `channels` rows below
    const float left = condition ? load(condition[first]) : 0.0f, right = condition ? load(condition[first + channels]) : 0.0f;
    float left_sum = 0.0f, right_sum = 0.0f;
    for (i64 place = threadIdx.x; place < places; place += blockDim.x) {
      const i64 at = first * places + place, below = at + channels * places;
      const float tanh = tanhf(load(xs[at]) + left), open = sigmoid(load(xs[below]) + right), dy = load(dys[row * places + place]);
      const float da = dy * open * (1.0f - tanh * tanh), db = dy * tanh * open * (1.0f - open);
      store(dxs + at, da);
      store(dxs + below, db);
      left_sum += da;
      right_sum += db;
    }
    if (condition) {
      left_sum = block_sum(left_sum, scratch);
      right_sum = block_sum(right_sum, scratch);
      if (threadIdx.x == 0) {
        store(dcondition + first, left_sum);
        store(dcondition + first + channels, right_sum);
      }
    }
  }
}
CL_EXPORT(gate_gradient)
