// A convolutional network over images, run value after value in one launch: what kernels/cuda/program.rs describes and packs.
// A block has V images and draws, or is told, all their values; when a row begins, it computes for all columns what
// depends on rows above only.
// Letters: B images, N values of a launch, W columns, G colours, C channels, O outputs of a colour, L levels.
//
// Maps are float [rows][columns][C] of an image, a ring of rows. A lane is what one product of a matrix serves: an image at
// one pixel.

// The numbers that a description starts with. Behind them: maps, then instructions, then taps. Offsets count numbers of T
// or of floats.
struct Program {
  i64 width, colours, outputs, levels, features, maps, instructions, row_instructions;
  i64 output, table, size, sums;  // the head's map, what levels become [L][E], floats of an image's maps and sums
};
// Columns lie `pad` zeros behind the start of a row of `span`; of a map of one column, step is 0.
struct Map {
  i64 at, channels, rows, span, pad, step;
};
enum Kind { CONV, SUM, GATE, RELU, ELU, ADD };
// CONV writes channels first .. first + count of a map, SUM all outputs of a row of sums, each from a sum or a bias on.
struct Instruction {
  i64 kind, colour, a, b, to, first, count;  // colour -1: once a row, for all its columns
  i64 weights, ins, taps, num_taps;
  i64 from, sum_width, bias, classes;  // from: where an image's sums start, -1 for a bias
};
struct Tap {
  i64 map, dy, dx, channels;
};

struct Job {
  const i64* description;
  const T* weights;
  const float* floats;    // biases, what classes add, what levels become
  float* maps;            // [B][size]
  float* sums;            // [B][sums]: what a convolution of a row's pixels knows when the row begins [W][outputs]
  const i64* labels;      // [B]
  i64* symbols;           // [B][N + 1]: the level before each value, and the last one; -1 before the image
  const float* uniforms;  // [B][N]
  float* outputs;         // [B][O], of the last value
  i64 images, start, count, known;
  float* room;
};

// The pixel of a map `row`, `column` of an image, whose maps start at `maps`; a ring's row before the first holds zeros.
CL_DEVICE float* pixel(const Map& map, float* maps, i64 row, i64 column) {
  const i64 slot = (row + map.rows) % map.rows;
  return maps + map.at + (slot * map.span + map.pad + column * map.step) * map.channels;
}

// Where the lanes of a step stand: lane l is image `group + l / columns` at column `column + l % columns`.
struct Lanes {
  i64 group, row, column;
  int columns, count;
};

// A convolution of up to V lanes.
template <int V>
CL_DEVICE void convolve(const Job& job, const Program& program, const Map* maps, const Tap* taps, const Instruction& it,
                        const Lanes& lanes, int first_lane) {
  float* xs = job.room;  // [ins][V]
  float* parts = xs + it.ins * V;
  const int count = lanes.count - first_lane < V ? lanes.count - first_lane : V;
  int k = 0;
  for (i64 index = 0; index < it.num_taps; index++) {
    const Tap tap = taps[it.taps + index];
    const int channels = static_cast<int>(tap.channels);
    for (int unit = threadIdx.x; unit < channels * V; unit += blockDim.x) {
      const int c = unit % channels, v = unit / channels, lane = first_lane + v;
      const i64 image = lanes.group + lane / lanes.columns, column = lanes.column + lane % lanes.columns;
      const bool is_there = v < count && image < job.images && lanes.row + tap.dy >= 0;
      xs[(k + c) * V + v] =
          is_there ? pixel(maps[tap.map], job.maps + image * program.size, lanes.row + tap.dy, column + tap.dx)[c] : 0.0f;
    }
    k += channels;
  }
  __syncthreads();
  const int outs = static_cast<int>(it.count);
  multiply<V>(job.weights + it.weights, xs, k, outs, outs, parts);
  __syncthreads();
  for (int unit = threadIdx.x; unit < outs * V; unit += blockDim.x) {
    const int out = unit % outs, v = unit / outs, lane = first_lane + v;
    const i64 image = lanes.group + lane / lanes.columns, column = lanes.column + lane % lanes.columns;
    if (v >= count || image >= job.images) continue;
    float y;
    if (it.from >= 0) {
      y = job.sums[image * program.sums + it.from + column * it.sum_width + it.first + out];
    } else {
      y = job.floats[it.bias + out];
      if (it.classes >= 0 && job.labels) y += job.floats[it.classes + job.labels[image] * it.count + out];
    }
    y = total<V>(parts, outs, out, v, y);
    if (it.kind == SUM) {
      job.sums[image * program.sums + it.to + column * it.count + out] = y;
    } else {
      pixel(maps[it.to], job.maps + image * program.size, lanes.row, column)[it.first + out] = y;
    }
  }
  __syncthreads();
}

// A function of single numbers, of all lanes.
CL_DEVICE void apply(const Job& job, const Program& program, const Map* maps, const Instruction& it, const Lanes& lanes) {
  const int count = static_cast<int>(it.count), first = static_cast<int>(it.first);
  for (int unit = threadIdx.x; unit < count * lanes.count; unit += blockDim.x) {
    const int c = unit % count, lane = unit / count;
    const i64 image = lanes.group + lane / lanes.columns, column = lanes.column + lane % lanes.columns;
    if (image >= job.images) continue;
    float* own = job.maps + image * program.size;
    const float* a = pixel(maps[it.a], own, lanes.row, column);
    float y;
    if (it.kind == GATE) {  // halves of a colour lie one behind the other
      y = tanhf(a[2 * first + c]) * sigmoid(a[2 * first + count + c]);
    } else {
      const float x = a[first + c];
      if (it.kind == RELU) y = rectified(x);
      else if (it.kind == ELU) y = x > 0.0f ? x : expm1f(x);
      else y = x + pixel(maps[it.b], own, lanes.row, column)[first + c];
    }
    pixel(maps[it.to], own, lanes.row, column)[first + c] = y;
  }
  __syncthreads();
}

const int ROW_LANES = 8;

template <int V>
CL_DEVICE void draw(const Job& job) {
  const Program program = *reinterpret_cast<const Program*>(job.description);
  const Map* maps = reinterpret_cast<const Map*>(job.description + sizeof(Program) / sizeof(i64));
  const Instruction* instructions = reinterpret_cast<const Instruction*>(maps + program.maps);
  const Tap* taps = reinterpret_cast<const Tap*>(instructions + program.instructions);
  const i64 group = static_cast<i64>(blockIdx.x) * V, width = program.width, features = program.features;
  for (i64 i = 0; i < job.count; i++) {
    const i64 value = job.start + i, colour = value % program.colours, place = value / program.colours;
    const i64 row = place / width, column = place % width;
    if (value > 0) {  // what the level before becomes
      const i64 before = (value - 1) / program.colours, at = (value - 1) % program.colours * features;
      for (int unit = threadIdx.x; unit < features * V; unit += blockDim.x) {
        const i64 e = unit % features, image = group + unit / features;
        if (image >= job.images) continue;
        const i64 level = job.symbols[image * (job.count + 1) + i];
        float* to = pixel(maps[0], job.maps + image * program.size, before / width, before % width);
        to[at + e] = job.floats[program.table + level * features + e];
      }
      __syncthreads();
    }
    const bool begins_row = colour == 0 && column == 0;
    for (i64 index = begins_row ? 0 : program.row_instructions; index < program.instructions; index++) {
      const Instruction it = instructions[index];
      if (it.colour >= 0 && it.colour != colour) continue;
      const bool is_row = it.colour < 0;
      const int columns = is_row ? static_cast<int>(width) : 1;
      const Lanes lanes = {group, row, is_row ? 0 : column, columns, columns * V};
      if (it.kind != CONV && it.kind != SUM) {
        apply(job, program, maps, it, lanes);
      } else if (is_row) {
        for (int first = 0; first < lanes.count; first += ROW_LANES) {
          convolve<ROW_LANES>(job, program, maps, taps, it, lanes, first);
        }
      } else {
        convolve<V>(job, program, maps, taps, it, lanes, 0);
      }
    }
    const bool is_drawn = i + 1 > job.known && job.uniforms;
    for (int v = threadIdx.x / 32; v < V && group + v < job.images; v += blockDim.x / 32) {
      const i64 image = group + v;
      const float* ys = pixel(maps[program.output], job.maps + image * program.size, row, column) + colour * program.outputs;
      if (job.outputs && i + 1 == job.count) {
        for (i64 out = threadIdx.x % 32; out < program.outputs; out += 32) job.outputs[image * program.outputs + out] = ys[out];
      }
      if (!is_drawn) continue;
      const i64 level = quantile(ys, 1, static_cast<int>(program.levels), job.uniforms[image * job.count + i]);
      if (threadIdx.x % 32 == 0) job.symbols[image * (job.count + 1) + i + 1] = level;
    }
    __syncthreads();
  }
}

#define PROGRAM_ARGUMENTS                                                                                               \
  const i64 *description, const T *weights, const float *floats, float *maps, float *sums, const i64 *labels, i64 *symbols, \
      const float *uniforms, float *outputs, i64 images, i64 start, i64 count, i64 known
#define PROGRAM(V)                                                                                                      \
  CL_KERNEL __launch_bounds__(512) program_##V(PROGRAM_ARGUMENTS) {                                                     \
    CL_DYNAMIC_SHARED(float, room);                                                                                     \
    const Job job = {description, weights, floats, maps, sums, labels, symbols, uniforms, outputs, images, start, count, known, room}; \
    draw<V>(job);                                                                                                       \
  }                                                                                                                     \
  CL_EXPORT(program_##V)
PROGRAM(1)
PROGRAM(4)

// One image a block, the inputs and sums of a product in `room` [B][size].
CL_KERNEL __launch_bounds__(512) program_wide(PROGRAM_ARGUMENTS, float* room, i64 size) {
  const Job job = {description, weights, floats, maps, sums, labels, symbols, uniforms, outputs,
                   images, start, count, known, room + blockIdx.x * size};
  draw<1>(job);
}
CL_EXPORT(program_wide)
