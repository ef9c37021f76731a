// WaveNet, sample after sample in one launch (van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016,
// equations 2 and 3): a block has V voices and makes all their samples. kernels/cuda/wavenet.rs has the formula, and packs
// what is read here.
// Letters: B voices, N samples of a launch, T samples of a clip, L levels, k taps, d dilation, k0 taps of the first layer,
// R residual, G gate, S skip, A head, O output and C condition channels.
//
// Activations are float [channels][V] in `room`, shared memory or, for networks too wide for it, global.

// The numbers that a description starts with, and those of each layer behind them; offsets count numbers of T, -1 is none.
struct Network {
  i64 taps, residual, gate, skip, head, outputs, condition, layers, first_taps, levels, ring;
  i64 first, first_bias, skip_bias, head_weights, head_bias, output_weights, output_bias;
};
struct Layer {
  i64 dilation, ring, gates, gates_bias, speakers, mix, residual_bias;
};

// What a launch is told; pointers that are null are not read or written.
struct Job {
  const i64* description;
  const T* weights;
  float* rings;            // [B][ring]: of each layer the last (k - 1) d inputs [slots][R], sample t in slot t mod slots
  i64* history;            // [B][k0]: levels of earlier launches, sample t in slot t mod k0
  const i64* speakers;     // [B]
  const float* condition;  // [B][T][C]
  i64* symbols;            // [B][N + 1]: the level before each sample, and the last one; -1 before the clip
  const float* uniforms;   // [B][N]
  float* outputs;          // [B][O], of the last sample
  i64 voices, samples, start, count;
  i64 known;  // columns of symbols behind the first that are given; the others are drawn
};

// Lays out what layer `layer` reads of channel c of voice v at sample t, whose input is h, and keeps h for later samples.
template <int V>
CL_DEVICE void enter_layer(const Network& net, const Layer& layer, float* rings, i64 t, int c, int v, float h, float* xs) {
  const int taps = static_cast<int>(net.taps), channels = static_cast<int>(net.residual);
  xs[((taps - 1) * channels + c) * V + v] = h;
  if (taps == 1) return;
  const int dilation = static_cast<int>(layer.dilation), slots = (taps - 1) * dilation;
  const int now = static_cast<int>(static_cast<u32>(t) % static_cast<u32>(slots));
  float* ring = rings ? rings + layer.ring + c : nullptr;
  for (int tap = 0; tap < taps - 1; tap++) {
    const int slot = now + tap * dilation;  // (k - 1 - tap) d samples ago; before the start there are zeros
    xs[(tap * channels + c) * V + v] = ring ? ring[static_cast<i64>(slot < slots ? slot : slot - slots) * channels] : 0.0f;
  }
  if (ring) ring[static_cast<i64>(now) * channels] = h;
}

// The level of a voice `delay` samples before sample `start + i`, -1 before the clip.
CL_DEVICE i64 level_of(const Job& job, const Network& net, i64 voice, i64 i, i64 delay) {
  if (delay <= i + 1) return job.symbols[voice * (job.count + 1) + i + 1 - delay];
  const i64 then = job.start + i - delay;
  return then < 0 ? -1 : job.history[voice * net.first_taps + then % net.first_taps];
}

// Channel c of the first layer: vectors of the last k0 levels, or the convolution of their numbers; the oldest first.
CL_DEVICE float first_layer(const Job& job, const Network& net, i64 voice, i64 i, int c) {
  const T* ws = job.weights + net.first;
  float h = net.first_bias < 0 ? 0.0f : load(job.weights[net.first_bias + c]);
  for (i64 tap = 0; tap < net.first_taps; tap++) {
    const i64 level = level_of(job, net, voice, i, net.first_taps - tap);
    if (level < 0) continue;
    if (net.first_bias < 0) {
      h += load(ws[(level * net.first_taps + tap) * net.residual + c]);
    } else {
      const float x = static_cast<float>(level) * (2.0f / static_cast<float>(net.levels - 1)) - 1.0f;
      h += load(ws[tap * net.residual + c]) * x;
    }
  }
  return h;
}

template <int V>
CL_DEVICE void speak(const Job& job, float* room) {
  const Network net = *reinterpret_cast<const Network*>(job.description);
  const Layer* layers = reinterpret_cast<const Layer*>(job.description + sizeof(Network) / sizeof(i64));
  const int residual = static_cast<int>(net.residual), gate = static_cast<int>(net.gate), skip = static_cast<int>(net.skip);
  const int head = static_cast<int>(net.head), outputs = static_cast<int>(net.outputs);
  const int condition = static_cast<int>(net.condition), past = static_cast<int>(net.taps * net.residual);
  const i64 group = static_cast<i64>(blockIdx.x) * V;
  float* xs = room;  // what a layer reads [k R + C], later what the head's first layer gives [A]
  float* hs = xs + (past + condition > head ? past + condition : head) * V;  // [R]
  float* zs = hs + residual * V;                                             // [G]
  float* skips = zs + gate * V;                                              // [S], later the outputs [O]
  float* parts = skips + (skip > outputs ? skip : outputs) * V;
  for (i64 i = 0; i < job.count; i++) {
    const i64 t = job.start + i;
    const bool is_drawn = i + 1 > job.known && job.uniforms, is_asked = is_drawn || (job.outputs && i + 1 == job.count);
    for (int unit = threadIdx.x; unit < residual * V; unit += blockDim.x) {
      const int c = unit % residual, v = unit / residual;
      const bool is_there = group + v < job.voices;
      const float h = is_there ? first_layer(job, net, group + v, i, c) : 0.0f;
      hs[c * V + v] = h;
      enter_layer<V>(net, layers[0], is_there ? job.rings + (group + v) * net.ring : nullptr, t, c, v, h, xs);
    }
    for (int unit = threadIdx.x; unit < condition * V; unit += blockDim.x) {
      const int c = unit % condition, v = unit / condition;
      const bool is_there = group + v < job.voices;
      xs[(past + c) * V + v] = is_there && job.condition ? job.condition[((group + v) * job.samples + t) * condition + c] : 0.0f;
    }
    for (int unit = threadIdx.x; unit < skip * V; unit += blockDim.x) skips[unit] = load(job.weights[net.skip_bias + unit / V]);
    __syncthreads();
    for (i64 index = 0; index < net.layers; index++) {
      const bool is_last = index + 1 == net.layers;
      if (is_last && !is_asked) break;  // only the skip path reads it
      const Layer layer = layers[index];
      multiply<V>(job.weights + layer.gates, xs, past + condition, 2 * gate, 2 * gate, parts);
      __syncthreads();
      for (int unit = threadIdx.x; unit < gate * V; unit += blockDim.x) {
        const int c = unit / V, v = unit % V;
        float a = load(job.weights[layer.gates_bias + c]), b = load(job.weights[layer.gates_bias + gate + c]);
        if (layer.speakers >= 0 && job.speakers && group + v < job.voices) {
          const i64 speaker = job.speakers[group + v];
          a += load(job.weights[layer.speakers + 2 * speaker * gate + c]);
          b += load(job.weights[layer.speakers + (2 * speaker + 1) * gate + c]);
        }
        a = total<V>(parts, 2 * gate, c, v, a);
        b = total<V>(parts, 2 * gate, gate + c, v, b);
        zs[unit] = tanhf(a) * sigmoid(b);
      }
      __syncthreads();
      // the residual and the layer's share of the skip path, which read the same
      const int mixed = is_last ? 0 : residual, outs = mixed + skip, live = is_asked ? outs : mixed;
      multiply<V>(job.weights + layer.mix, zs, gate, outs, live, parts);
      __syncthreads();
      for (int unit = threadIdx.x; unit < live * V; unit += blockDim.x) {
        if (unit < mixed * V) {
          const int c = unit % residual, v = unit / residual;
          const float h = total<V>(parts, outs, c, v, hs[c * V + v] + load(job.weights[layer.residual_bias + c]));
          hs[c * V + v] = h;
          float* rings = group + v < job.voices ? job.rings + (group + v) * net.ring : nullptr;
          enter_layer<V>(net, layers[index + 1], rings, t, c, v, h, xs);
        } else {
          const int s = unit - mixed * V;
          const float sum = total<V>(parts, outs, mixed + s / V, s % V, skips[s]);
          skips[s] = is_last ? rectified(sum) : sum;
        }
      }
      __syncthreads();
    }
    if (!is_asked) continue;
    multiply<V>(job.weights + net.head_weights, skips, skip, head, head, parts);
    __syncthreads();
    for (int unit = threadIdx.x; unit < head * V; unit += blockDim.x) {
      xs[unit] = rectified(total<V>(parts, head, unit / V, unit % V, load(job.weights[net.head_bias + unit / V])));
    }
    __syncthreads();
    multiply<V>(job.weights + net.output_weights, xs, head, outputs, outputs, parts);
    __syncthreads();
    for (int unit = threadIdx.x; unit < outputs * V; unit += blockDim.x) {
      const int out = unit / V, v = unit % V;
      const float y = total<V>(parts, outputs, out, v, load(job.weights[net.output_bias + out]));
      skips[unit] = y;
      if (job.outputs && i + 1 == job.count && group + v < job.voices) job.outputs[(group + v) * outputs + out] = y;
    }
    __syncthreads();
    for (int v = threadIdx.x / 32; is_drawn && v < V && group + v < job.voices; v += blockDim.x / 32) {
      const i64 level = quantile(skips + v, V, outputs, job.uniforms[(group + v) * job.count + i]);
      if (threadIdx.x % 32 == 0) job.symbols[(group + v) * (job.count + 1) + i + 1] = level;
    }
    __syncthreads();  // the levels are read, and the outputs' room written, by other threads
  }
  const i64 kept = job.count < net.first_taps ? job.count : net.first_taps;
  for (i64 unit = threadIdx.x; unit < kept * V; unit += blockDim.x) {
    const i64 column = job.count - kept + unit % kept, voice = group + unit / kept, then = job.start - 1 + column;
    if (voice >= job.voices || then < 0) continue;
    job.history[voice * net.first_taps + then % net.first_taps] = job.symbols[voice * (job.count + 1) + column];
  }
}

#define WAVENET_ARGUMENTS                                                                                                    \
  const i64 *description, const T *weights, float *rings, i64 *history, const i64 *speakers, const float *condition,         \
      i64 *symbols, const float *uniforms, float *outputs, i64 voices, i64 samples, i64 start, i64 count, i64 known
#define WAVENET_JOB                                                                                                          \
  { description, weights, rings, history, speakers, condition, symbols, uniforms, outputs, voices, samples, start, count, known }
#define WAVENET(V)                                                        \
  CL_KERNEL __launch_bounds__(512) wavenet_##V(WAVENET_ARGUMENTS) {       \
    CL_DYNAMIC_SHARED(float, room);                                       \
    const Job job = WAVENET_JOB;                                          \
    speak<V>(job, room);                                                  \
  }                                                                       \
  CL_EXPORT(wavenet_##V)
WAVENET(1)
WAVENET(2)
WAVENET(4)
WAVENET(8)

// One voice a block, activations in `room` [B][width].
CL_KERNEL __launch_bounds__(512) wavenet_wide(WAVENET_ARGUMENTS, float* room, i64 width) {
  const Job job = WAVENET_JOB;
  speak<1>(job, room + blockIdx.x * width);
}
CL_EXPORT(wavenet_wide)
