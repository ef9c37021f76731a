// log p of levels under mixtures of discretised logistics, and its gradients (the formula: likelihood/logistics.rs; how it is
// computed: cpu/logistics.cpp).
// Letters: P positions, M components of a mixture, L levels.
// Shapes: logits, means, log_scales [P, M] of T, symbols [P], y [P] float. A thread has a position. A block reads the
// parameters of its positions side by side into shared memory, in rows of odd width, so that threads meet in no bank.

// What a component gives a level: log p, and d log p by its mean and log-scale.
struct Given {
  float log_p, by_mean, by_scale;
};

// (1 - e^-w) / w for 0 <= w < 1/2, by its series.
CL_DEVICE float mean_decay(float w) {
  float r = 2.7557319e-6f;
  r = r * -w + 2.4801587e-5f;
  r = r * -w + 1.9841270e-4f;
  r = r * -w + 1.3888889e-3f;
  r = r * -w + 8.3333333e-3f;
  r = r * -w + 4.1666667e-2f;
  r = r * -w + 1.6666667e-1f;
  r = r * -w + 0.5f;
  return r * -w + 1.0f;
}

// x below 80 in size; NaN stays NaN.
CL_DEVICE float bounded(float x) {
  x = x > 80.0f ? 80.0f : x;
  return x < -80.0f ? -80.0f : x;
}

// `ends` is L - 1, `centre` 2 v - ends of the level v; the last has no upper edge, the first no lower one.
CL_DEVICE Given given(float mean, float log_scale, float centre, float ends) {
  const bool upper = centre != ends, lower = centre != -ends, inner = upper && lower;
  const float s = expf(bounded(-log_scale)), sh = s / ends, w = 2.0f * sh;
  const float a = fmaf(-mean, ends, centre + 1.0f) * sh, b = fmaf(-mean, ends, centre - 1.0f) * sh;
  const float ea = expf(-fabsf(a)), eb = expf(-fabsf(b)), ew = expf(-w), ia = 1.0f / (1.0f + ea), ib = 1.0f / (1.0f + eb);
  const bool small = w < 0.5f;
  const float width = small ? mean_decay(w) : 1.0f - ew;
  const float q = (inner ? width : 1.0f) * (upper ? ia : 1.0f) * (lower ? ib : 1.0f);
  const float da = upper ? (a > 0.0f ? ea * ia : ia) : 0.0f;      // sigma(-a)
  const float db = lower ? (b > 0.0f ? ib : eb * ib) : 0.0f;      // sigma(b), to be subtracted
  const float dw = inner ? (small ? ew : w * ew) / width : 0.0f;  // w / (e^w - 1)
  Given it;
  it.log_p = (upper && a < 0.0f ? a : 0.0f) - (lower && b > 0.0f ? b : 0.0f) + logf(q) +
             (inner && small ? logf(2.0f / ends) - log_scale : 0.0f);
  it.by_mean = s * (db - da);
  it.by_scale = (db != 0.0f ? b * db : 0.0f) - (da != 0.0f ? a * da : 0.0f) - dw;
  return it;
}

// One position: its log p. Turns its rows into what the gradient needs: the components' shares of the weight and of the
// level, and their derivatives.
CL_DEVICE float mixture(float* shares, float* levels, float* means, float* scales, i64 components, float centre, float ends) {
  float heaviest = -CL_INFINITY, greatest = -CL_INFINITY, weight = 0.0f, sum = 0.0f;
  for (i64 m = 0; m < components; m++) heaviest = fmaxf(heaviest, shares[m]);
  for (i64 m = 0; m < components; m++) {
    const Given it = given(means[m], scales[m], centre, ends);
    const float logit = shares[m] - heaviest;
    levels[m] = it.log_p + logit;
    greatest = fmaxf(greatest, levels[m]);
    means[m] = it.by_mean;
    scales[m] = it.by_scale;
    shares[m] = expf(logit);
    weight += shares[m];
  }
  for (i64 m = 0; m < components; m++) {
    levels[m] = expf(levels[m] - greatest);
    sum += levels[m];
  }
  for (i64 m = 0; m < components; m++) {
    shares[m] /= weight;
    levels[m] /= sum;
  }
  return greatest + (logf(sum) - logf(weight));
}

// Shared memory: four rows for each thread.
struct Room {
  float *shares, *levels, *means, *scales;
  i64 pitch;
};

CL_DEVICE Room room_of(float* shared, i64 components) {
  Room it;
  it.pitch = components | 1;
  const i64 part = it.pitch * blockDim.x;
  it.shares = shared;
  it.levels = shared + part;
  it.means = shared + 2 * part;
  it.scales = shared + 3 * part;
  return it;
}

// Reads the parameters of the block's positions from `first` on and computes the thread's own, whose log p it returns.
CL_DEVICE float read(const Room& room, const T* logits, const T* means, const T* log_scales, const i64* symbols, i64 first,
                     i64 positions, i64 components, i64 levels) {
  const i64 count = (positions - first < blockDim.x ? positions - first : blockDim.x) * components;
  __syncthreads();  // who still reads the positions before
  for (i64 i = threadIdx.x; i < count; i += blockDim.x) {
    const i64 to = i / components * room.pitch + i % components, from = first * components + i;
    room.shares[to] = load(logits[from]);
    room.means[to] = load(means[from]);
    room.scales[to] = load(log_scales[from]);
  }
  __syncthreads();
  const i64 position = first + threadIdx.x, row = threadIdx.x * room.pitch;
  if (position >= positions) return 0.0f;
  const float ends = static_cast<float>(levels - 1), centre = static_cast<float>(2 * symbols[position] - (levels - 1));
  return mixture(room.shares + row, room.levels + row, room.means + row, room.scales + row, components, centre, ends);
}

CL_KERNEL logistics(const T* logits, const T* means, const T* log_scales, const i64* symbols, float* ys, i64 positions,
                    i64 components, i64 levels) {
  CL_DYNAMIC_SHARED(float, shared);
  const Room room = room_of(shared, components);
  for (i64 first = blockIdx.x * static_cast<i64>(blockDim.x); first < positions; first += static_cast<i64>(gridDim.x) * blockDim.x) {
    const float y = read(room, logits, means, log_scales, symbols, first, positions, components, levels);
    if (first + threadIdx.x < positions) ys[first + threadIdx.x] = y;
  }
}
CL_EXPORT(logistics)

// The gradients of dy; each may lie where its parameter lies, since a block has read its positions before it writes them.
CL_KERNEL logistics_gradient(const T* logits, const T* means, const T* log_scales, const i64* symbols, const float* dys, T* dlogits,
                             T* dmeans, T* dlog_scales, i64 positions, i64 components, i64 levels) {
  CL_DYNAMIC_SHARED(float, shared);
  const Room room = room_of(shared, components);
  for (i64 first = blockIdx.x * static_cast<i64>(blockDim.x); first < positions; first += static_cast<i64>(gridDim.x) * blockDim.x) {
    read(room, logits, means, log_scales, symbols, first, positions, components, levels);
    __syncthreads();
    const i64 count = (positions - first < blockDim.x ? positions - first : blockDim.x) * components;
    for (i64 i = threadIdx.x; i < count; i += blockDim.x) {
      const i64 from = i / components * room.pitch + i % components, to = first * components + i;
      const float dy = dys[first + i / components], level = dy * room.levels[from];
      store(dlogits + to, level - dy * room.shares[from]);
      store(dmeans + to, level * room.means[from]);
      store(dlog_scales + to, level * room.scales[from]);
    }
  }
}
CL_EXPORT(logistics_gradient)
