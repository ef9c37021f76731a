// Sums of convolutions of images with channels last, as matrix products: y = sum_j w_j * x_j + b in one product over the
// taps of all inputs, and its gradients. Letters: B images, P pixels of an image, C channels of the inputs together, K taps
// times channels, O outputs, Z bytes of a number: 4, or 2 in bfloat16.
//
//   y = X W + b,  dW = X^T dy,  dX = dy W^T,  db = sum dy over pixels; X [B P, K] holds what the taps read, 0 outside an image,
//
// with x [B, P, C] and y [B, P, O] as they lie, W [K, O], b [O]; dx adds up what dX has of each pixel.
//
// Images are taken in parts whose X is 2 MiB at most, or one image, so that X stays in the caches: B P C Z bytes are read and
// B P O Z written, K O Z of weights for every part. X costs as many copies, B P K Z bytes written and read in the cache; one
// tap of a pixel itself needs none. Backward reads x and dy, makes X anew, and writes dx: B P (2 C + O) Z bytes, beside K O
// floats a thread. 2 B P K O operations forward and 4 B P K O backward (half of it where no input wants a gradient), and
// B P (K + O) additions. Arithmetic should bind where O is some tens, the making of X where it is few. Inputs that are not
// channels last, or of another type, are copied first.
//
// The gradient of weights is added up by part and thread, so its bits depend on the number of threads; in bfloat16 that of
// a part is rounded before it is added in float32.
#include "../api.h"
#include "loops.h"
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>
#include <optional>
#include <vector>

using at::Tensor;
using cl::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// One input: tap (r, c) of its window reads the pixel (r - top) * dilation rows down and (c - left) * dilation columns right.
struct Window {
  int64_t channels, rows, columns, top, left, dilation;
  int64_t width() const { return rows * columns * channels; }
};

struct Shape {
  int64_t height, width, inputs, outputs;  // inputs: K
  std::vector<Window> windows;
  int64_t pixels() const { return height * width; }
  // One product over the pixels as they lie, without gathering.
  bool is_pointwise() const {
    const Window& w = windows[0];
    return windows.size() == 1 && w.rows * w.columns == 1 && w.top == 0 && w.left == 0;
  }
  // Images whose gathered taps fit the caches.
  int64_t images_at_once(int64_t size, int64_t images) const {
    return is_pointwise() ? images : std::clamp<int64_t>((2 << 20) / (pixels() * inputs * size), 1, images);
  }
};

// Columns first..last of `taps` whose pixel lies inside the image, for an output in column `x`.
void inside(const Window& w, int64_t x, int64_t width, int64_t* first, int64_t* last) {
  *first = 0;
  while (*first < w.columns && x + (*first - w.left) * w.dilation < 0) ++*first;
  *last = w.columns;
  while (*last > *first && x + (*last - 1 - w.left) * w.dilation >= width) --*last;
}

// Copies what the taps of `w` read of one image `[H, W, C]` to `[P, stride]`; sizes in bytes.
void gather(const char* xs, const Shape& s, const Window& w, int64_t size, char* to, int64_t stride) {
  const int64_t pixel = w.channels * size;
  for (int64_t y = 0; y < s.height; y++)
    for (int64_t r = 0; r < w.rows; r++) {
      const int64_t row = y + (r - w.top) * w.dilation;
      char* out = to + y * s.width * stride + r * w.columns * pixel;
      for (int64_t x = 0; x < s.width; x++, out += stride) {
        int64_t first = w.columns, last = w.columns;
        if (row >= 0 && row < s.height) inside(w, x, s.width, &first, &last);
        if (first > 0) std::memset(out, 0, first * pixel);
        const char* from = xs + (row * s.width + x - w.left * w.dilation) * pixel;
        if (w.dilation == 1) {
          if (last > first) std::memcpy(out + first * pixel, from + first * pixel, (last - first) * pixel);
        } else {
          for (int64_t c = first; c < last; c++) std::memcpy(out + c * pixel, from + c * w.dilation * pixel, pixel);
        }
        if (last < w.columns && first < w.columns) std::memset(out + last * pixel, 0, (w.columns - last) * pixel);
      }
    }
}

// The transpose of `gather`: dx `[H, W, C]` from the gradients `[P, stride]` of what was gathered, summed in float32.
template <typename T>
CL_INLINE void spread(const T* grads, const Shape& s, const Window& w, int64_t stride, T* dx, float* sum) {
  const int64_t channels = w.channels;
  for (int64_t y = 0; y < s.height; y++)
    for (int64_t x = 0; x < s.width; x++, dx += channels) {
      for (int64_t i = 0; i < channels; i++) sum[i] = 0;
      for (int64_t r = 0; r < w.rows; r++)
        for (int64_t c = 0; c < w.columns; c++) {
          const int64_t oy = y - (r - w.top) * w.dilation, ox = x - (c - w.left) * w.dilation;
          if (oy < 0 || oy >= s.height || ox < 0 || ox >= s.width) continue;
          const T* from = grads + (oy * s.width + ox) * stride + (r * w.columns + c) * channels;
          for (int64_t i = 0; i < channels; i++) sum[i] += cl::load(from[i]);
        }
      for (int64_t i = 0; i < channels; i++) cl::store(dx + i, sum[i]);
    }
}

void spread_f32(const float* grads, const Shape& s, const Window& w, int64_t stride, float* dx, float* sum) {
  cl::widest([=]() CL_WORK { spread(grads, s, w, stride, dx, sum); });
}
void spread_bf16(const Bf16* grads, const Shape& s, const Window& w, int64_t stride, Bf16* dx, float* sum) {
  cl::widest([=]() CL_WORK { spread(grads, s, w, stride, dx, sum); });
}

template <typename T>
CL_INLINE void add_rows(const T* xs, int64_t rows, int64_t width, float* sum) {
  for (int64_t r = 0; r < rows; r++, xs += width)
    for (int64_t i = 0; i < width; i++) sum[i] += cl::load(xs[i]);
}

void add_rows_f32(const float* xs, int64_t rows, int64_t width, float* sum) {
  cl::widest([=]() CL_WORK { add_rows(xs, rows, width, sum); });
}
void add_rows_bf16(const Bf16* xs, int64_t rows, int64_t width, float* sum) {
  cl::widest([=]() CL_WORK { add_rows(xs, rows, width, sum); });
}

Tensor channels_last(const Tensor& xs, at::ScalarType kind) { return xs.permute({0, 2, 3, 1}).to(kind).contiguous(); }

// `[O, C, R, S]` of each input to `[K, O]`.
Tensor packed(const variable_list& ws, at::ScalarType kind) {
  variable_list parts;
  for (const Tensor& w : ws) parts.push_back(w.permute({2, 3, 1, 0}).reshape({-1, w.size(0)}).to(kind));
  return at::cat(parts, 0).contiguous();
}

// What the taps of images first..first + count read, `[count P, K]`; `room` holds it where it must be gathered.
Tensor taps(const variable_list& xs, const Shape& s, int64_t first, int64_t count, const Tensor& room) {
  if (s.is_pointwise()) return xs[0].narrow(0, first, count).view({count * s.pixels(), s.inputs});
  const int64_t size = room.element_size();
  char* to = static_cast<char*>(room.data_ptr());
  for (size_t j = 0; j < xs.size(); j++) {
    const Window& w = s.windows[j];
    const char* from = static_cast<const char*>(xs[j].const_data_ptr()) + first * s.pixels() * w.channels * size;
    for (int64_t b = 0; b < count; b++)
      gather(from + b * s.pixels() * w.channels * size, s, w, size, to + b * s.pixels() * s.inputs * size, s.inputs * size);
    to += w.width() * size;
  }
  return room.narrow(0, 0, count * s.pixels());
}

// Calls work(first, count, thread) for the images, an equal share a thread, in parts that fit the caches.
template <typename Work>
void each_part(const Shape& s, int64_t images, int64_t size, const Work& work) {
  at::parallel_for(0, images, 1, [&](int64_t begin, int64_t end) {
    at::NoGradGuard no_grad;
    const int64_t step = s.images_at_once(size, end - begin);
    for (; begin < end; begin += step) work(begin, std::min(step, end - begin), at::get_thread_num());
  });
}

struct ConvSum : torch::autograd::Function<ConvSum> {
  // One or two inputs: autograd follows single tensors only, not lists.
  static Tensor forward(AutogradContext* ctx, const Tensor& x0, const Tensor& w0, const std::optional<Tensor>& x1,
                        const std::optional<Tensor>& w1, const Tensor& bias, const std::vector<int64_t>& geometry) {
    const bool is_low = at::autocast::is_autocast_enabled(at::kCPU) || x0.scalar_type() == at::kBFloat16;
    const at::ScalarType kind = is_low ? at::kBFloat16 : at::kFloat;
    Shape s{x0.size(2), x0.size(3), 0, bias.size(0), {}};
    variable_list xs, ws{w0};
    if (w1) ws.push_back(*w1);
    for (size_t j = 0; j < ws.size(); j++) {
      xs.push_back(channels_last(j == 0 ? x0 : *x1, kind));
      const Tensor& w = ws[j];
      s.windows.push_back({w.size(1), w.size(2), w.size(3), geometry[3 * j], geometry[3 * j + 1], geometry[3 * j + 2]});
      s.inputs += s.windows.back().width();
    }
    const Tensor weights = packed(ws, kind), start = bias.to(kind);
    const int64_t images = xs[0].size(0);
    const Tensor ys = at::empty({images, s.height, s.width, s.outputs}, xs[0].options());
    each_part(s, images, xs[0].element_size(), [&](int64_t first, int64_t count, int64_t) {
      const Tensor room = s.is_pointwise() ? Tensor() : at::empty({count * s.pixels(), s.inputs}, ys.options());
      Tensor y = ys.narrow(0, first, count).view({count * s.pixels(), s.outputs});
      at::addmm_out(y, start, taps(xs, s, first, count, room), weights);
    });
    variable_list kept = xs;
    kept.push_back(weights);
    ctx->save_for_backward(kept);
    ctx->saved_data["geometry"] = geometry;
    std::vector<int64_t> sizes;
    for (const Tensor& w : ws) sizes.insert(sizes.end(), {w.size(1), w.size(2), w.size(3)});
    ctx->saved_data["sizes"] = sizes;
    return ys.permute({0, 3, 1, 2});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    CL_FIRST_DERIVATIVE("a convolution's kernel");
    variable_list xs = ctx->get_saved_variables();
    const Tensor weights = xs.back();
    xs.pop_back();
    const auto geometry = ctx->saved_data["geometry"].toIntVector(), sizes = ctx->saved_data["sizes"].toIntVector();
    const int64_t count = xs.size(), images = xs[0].size(0);
    const at::ScalarType kind = weights.scalar_type();
    Shape s{xs[0].size(1), xs[0].size(2), weights.size(0), weights.size(1), {}};
    bool wants_inputs = false;
    for (int64_t j = 0; j < count; j++) {
      const int64_t *size = &sizes[3 * j], *at = &geometry[3 * j];
      s.windows.push_back({size[0], size[1], size[2], at[0], at[1], at[2]});
      wants_inputs |= ctx->needs_input_grad(2 * j);
    }
    const Tensor dys = channels_last(grads[0], kind);
    variable_list dxs;
    for (const Tensor& x : xs) dxs.push_back(wants_inputs ? at::empty_like(x) : Tensor());
    std::vector<Tensor> dws(at::get_num_threads()), dbs(at::get_num_threads());
    each_part(s, images, xs[0].element_size(), [&](int64_t first, int64_t images, int64_t thread) {
      const int64_t rows = images * s.pixels();
      Tensor room = s.is_pointwise() ? Tensor() : at::empty({rows, s.inputs}, dys.options());
      const Tensor dy = dys.narrow(0, first, images).view({rows, s.outputs});
      add_gradients(taps(xs, s, first, images, room), dy, &dws[thread], &dbs[thread]);
      if (!wants_inputs) return;
      if (s.is_pointwise()) room = dxs[0].narrow(0, first, images).view({rows, s.inputs});
      at::mm_out(room, dy, weights.t());
      if (!s.is_pointwise()) spread_all(room, s, first, images, dxs);
    });
    if (images == 0) {
      dws[0] = at::zeros({s.inputs, s.outputs}, weights.options().dtype(at::kFloat));
      dbs[0] = at::zeros({s.outputs}, dws[0].options());
    }
    return collect(ctx, s, dxs, sum(dws), sum(dbs));
  }

  // Adds to the gradients of weights and bias of one thread.
  static void add_gradients(const Tensor& taps, const Tensor& dy, Tensor* dw, Tensor* db) {
    const Tensor part = at::mm(taps.t(), dy);  // [K, O]
    if (!dw->defined()) {
      *dw = part.to(at::kFloat);
      *db = at::zeros({dy.size(1)}, dw->options());
    } else {
      dw->add_(part);
    }
    float* sum = db->data_ptr<float>();
    if (dy.scalar_type() == at::kFloat) {
      add_rows_f32(dy.const_data_ptr<float>(), dy.size(0), dy.size(1), sum);
    } else {
      add_rows_bf16(static_cast<const Bf16*>(dy.const_data_ptr()), dy.size(0), dy.size(1), sum);
    }
  }

  static void spread_all(const Tensor& dtaps, const Shape& s, int64_t first, int64_t images, const variable_list& dxs) {
    int64_t offset = 0;
    for (size_t j = 0; j < dxs.size(); offset += s.windows[j].width(), j++) {
      const Window& w = s.windows[j];
      std::vector<float> sum(w.channels);
      for (int64_t b = 0; b < images; b++) {
        const int64_t from = b * s.pixels() * s.inputs + offset, to = (first + b) * s.pixels() * w.channels;
        if (dtaps.scalar_type() == at::kFloat) {
          spread_f32(dtaps.const_data_ptr<float>() + from, s, w, s.inputs, dxs[j].data_ptr<float>() + to, sum.data());
        } else {
          spread_bf16(static_cast<const Bf16*>(dtaps.const_data_ptr()) + from, s, w, s.inputs,
                      static_cast<Bf16*>(dxs[j].data_ptr()) + to, sum.data());
        }
      }
    }
  }

  static Tensor sum(const std::vector<Tensor>& parts) {
    Tensor sum;
    for (const Tensor& part : parts)
      if (part.defined()) sum = sum.defined() ? sum + part : part;
    return sum;
  }

  // Gradients in the order of the arguments: each input and its weights, bias, geometry.
  static variable_list collect(AutogradContext* ctx, const Shape& s, const variable_list& dxs, const Tensor& dws,
                               const Tensor& db) {
    variable_list all(6);
    int64_t offset = 0;
    for (size_t j = 0; j < dxs.size(); j++) {
      const Window& w = s.windows[j];
      if (ctx->needs_input_grad(2 * j)) all[2 * j] = dxs[j].permute({0, 3, 1, 2});
      const Tensor dw = dws.narrow(0, offset, w.width()).view({w.rows, w.columns, w.channels, s.outputs});
      all[2 * j + 1] = dw.permute({3, 2, 0, 1});
      offset += w.width();
    }
    all[4] = db;
    return all;
  }
};

}  // namespace

extern "C" {

// Inputs [B, C, H, W] and weights [O, C, R, S], one or two of each, and the bias [O]; geometry: top, left and dilation of
// each input.
int cl_conv_sum(const Tensor* const* xs, const Tensor* const* ws, int count, const Tensor* bias, const int64_t* geometry,
                Tensor** out) {
  CL_TRY(
      std::optional<Tensor> x1; std::optional<Tensor> w1;
      if (count == 2) { x1 = *xs[1]; w1 = *ws[1]; }
      *out = new Tensor(ConvSum::apply(*xs[0], *ws[0], x1, w1, *bias,
                                       std::vector<int64_t>(geometry, geometry + 3 * count))))
}

}  // extern "C"
